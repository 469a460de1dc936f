-- A site that was unpaired keeps its row, for its name in the history; nothing is taken from it or offered to it.
ALTER TABLE peers ADD COLUMN unpinned_at INTEGER NOT NULL DEFAULT 0;
