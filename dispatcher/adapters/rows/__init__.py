"""Sources of recipients: ``interfaces.Rows`` over files of several kinds, and over a query. ``of_file`` tells which."""
