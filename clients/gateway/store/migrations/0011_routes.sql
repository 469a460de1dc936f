-- The transfer syntax in which a PACS has an instance, where it is not the study's own.
ALTER TABLE ledger ADD COLUMN syntax TEXT NOT NULL DEFAULT '';
-- One row for each item of a transfer, over all of its destinations: stored is what each of them has.
CREATE VIEW ledger_items AS SELECT tid, no, min(series) AS series,
    CASE WHEN min(state='stored') THEN 'stored' WHEN max(state='failed') THEN 'failed'
    WHEN max(state='sending') THEN 'sending' ELSE 'listed' END AS state
    FROM ledger GROUP BY tid, no;
