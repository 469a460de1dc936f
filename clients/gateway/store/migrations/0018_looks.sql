-- What is asked at each change finds its few rows among the transfers and instances of years.
CREATE INDEX instances_study ON instances (study);
CREATE INDEX sends_study ON sends (study);
CREATE INDEX sends_cid ON sends (cid);
CREATE INDEX sends_open ON sends (state, created_at) WHERE state='PREPARING' OR state='OFFERED' OR state='RELEASED';
CREATE INDEX spools_packing ON spools (cid) WHERE ended=0 AND dropped=0;
