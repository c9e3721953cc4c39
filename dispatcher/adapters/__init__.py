"""We call out: a third party's name appears only in the file that bears it."""
