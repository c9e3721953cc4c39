"""An ERP as a company has one, small: it tells the dispatcher what happens, and keeps a record of it."""
