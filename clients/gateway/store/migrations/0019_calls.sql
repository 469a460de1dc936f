-- Whom staff call at a paired site, as this site's administrator noted it.
ALTER TABLE peers ADD COLUMN call TEXT NOT NULL DEFAULT '';
