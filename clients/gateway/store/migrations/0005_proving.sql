-- A run whose try is spent and whose PIN is not compared yet: the one proof that may still be compared, and with what.
ALTER TABLE tries ADD COLUMN proof BLOB;
ALTER TABLE tries ADD COLUMN door_sealed BLOB;
