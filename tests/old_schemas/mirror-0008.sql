BEGIN TRANSACTION;
CREATE TABLE _alerts (
	company_id BIGINT NOT NULL, 
	id BIGINT NOT NULL, 
	name VARCHAR NOT NULL, 
	severity INTEGER NOT NULL, 
	sentence TEXT NOT NULL, 
	since VARCHAR NOT NULL, 
	opened_at VARCHAR NOT NULL, 
	closed_at VARCHAR, 
	open_told_at VARCHAR, 
	close_told_at VARCHAR, 
	PRIMARY KEY (company_id, id)
)
 WITHOUT ROWID

;
INSERT INTO "_alerts" VALUES(5678,1,'gap',1,'Nobody listened','2026-03-06T09:00:00.000Z','2026-03-07T09:00:00.000Z',NULL,NULL,NULL);
CREATE TABLE _changes (
	company_id BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	customer_id BIGINT NOT NULL, 
	kind VARCHAR NOT NULL, 
	attributes JSON NOT NULL, 
	"before" JSON, 
	"after" JSON, 
	as_of VARCHAR, 
	source VARCHAR NOT NULL, 
	delivery_id VARCHAR, 
	applied_at VARCHAR NOT NULL, 
	first_name TEXT, 
	last_name TEXT, 
	email TEXT, 
	phone TEXT, 
	mobile TEXT, 
	image TEXT, 
	reference_id TEXT, 
	accepts_marketing BOOLEAN, 
	tags JSON, 
	primary_address TEXT, 
	primary_city TEXT, 
	primary_state TEXT, 
	primary_postal_code TEXT, 
	primary_country TEXT, 
	shipping_address TEXT, 
	shipping_city TEXT, 
	shipping_state TEXT, 
	shipping_postal_code TEXT, 
	shipping_country TEXT, 
	other JSON, 
	valid_to VARCHAR, 
	PRIMARY KEY (company_id, seq)
);
INSERT INTO "_changes" VALUES(5678,1,101,'created','["name"]',NULL,'{"first_name": "Ada"}','2026-03-01T09:00:00.000Z','backfill',NULL,'2026-03-01T09:00:00.000Z','Ada',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-03-02T09:00:00.000Z');
INSERT INTO "_changes" VALUES(5678,2,102,'created','["name"]',NULL,'{"first_name": "Zoë"}','2026-03-03T09:00:00.000Z','webhook','018f7c2e-0000-7000-8000-000000000002','2026-03-03T09:00:00.000Z','Zoë',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "_changes" VALUES(5678,3,101,'updated','["tags"]','{"tags": []}','{"tags": ["vip", "gold"]}','2026-03-02T09:00:00.000Z','webhook','018f7c2e-0000-7000-8000-000000000001','2026-03-02T09:00:00.000Z','Ada',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'["vip", "gold"]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "_changes" VALUES(5678,4,103,'deleted','[]',NULL,NULL,'2026-03-04T09:00:00.000Z','webhook','018f7c2e-0000-7000-8000-000000000003','2026-03-04T09:00:00.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE _customer_tags (
	company_id BIGINT NOT NULL, 
	customer_id BIGINT NOT NULL, 
	place INTEGER NOT NULL, 
	tag TEXT NOT NULL, 
	PRIMARY KEY (company_id, customer_id, place)
)
 WITHOUT ROWID

;
INSERT INTO "_customer_tags" VALUES(5678,101,1,'gold');
INSERT INTO "_customer_tags" VALUES(5678,101,0,'vip');
CREATE TABLE _customers (
	company_id BIGINT NOT NULL, 
	id BIGINT NOT NULL, 
	first_name TEXT, 
	last_name TEXT, 
	email TEXT, 
	phone TEXT, 
	mobile TEXT, 
	image TEXT, 
	reference_id TEXT, 
	accepts_marketing BOOLEAN, 
	tags JSON, 
	primary_address TEXT, 
	primary_city TEXT, 
	primary_state TEXT, 
	primary_postal_code TEXT, 
	primary_country TEXT, 
	shipping_address TEXT, 
	shipping_city TEXT, 
	shipping_state TEXT, 
	shipping_postal_code TEXT, 
	shipping_country TEXT, 
	other JSON, 
	as_of VARCHAR NOT NULL, 
	first_seen_at VARCHAR NOT NULL, 
	first_seen_by VARCHAR NOT NULL, 
	changed_at VARCHAR NOT NULL, 
	verified_at VARCHAR, 
	partial BOOLEAN NOT NULL, 
	deleted_at VARCHAR, 
	rests_on_arrival BOOLEAN NOT NULL, 
	position BIGINT NOT NULL, 
	settled_at VARCHAR NOT NULL, 
	read_at VARCHAR, 
	read_as_of VARCHAR, 
	read_position BIGINT NOT NULL, 
	last_seq BIGINT, 
	listed_in BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (company_id, id)
);
INSERT INTO "_customers" VALUES(5678,101,'Ada','Example','ada@shop.example','02 5550 1001',NULL,NULL,'A-1',1,'["vip", "gold"]',NULL,'Sydney',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"colour": "teal"}','2026-03-02T09:00:00.000Z','2026-03-01T09:00:00.000Z','backfill','2026-03-02T09:00:00.000Z','2026-03-03T09:00:00.000Z',0,NULL,0,1,'2026-03-03T09:00:00.000Z',NULL,NULL,1,3,1);
INSERT INTO "_customers" VALUES(5678,102,'Zoë',NULL,NULL,NULL,NULL,NULL,'',NULL,'[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-03-03T09:00:00.000Z','2026-03-03T09:00:00.000Z','webhook','2026-03-03T09:00:00.000Z',NULL,1,NULL,1,2,'2026-03-03T09:00:00.000Z',NULL,NULL,0,2,1);
INSERT INTO "_customers" VALUES(5678,103,'Cem','Sample','cem@shop.example',NULL,NULL,NULL,'',0,'[]',NULL,'Perth',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-03-04T09:00:00.000Z','2026-03-01T09:00:00.000Z','sweep','2026-03-04T09:00:00.000Z',NULL,0,'2026-03-04T09:00:00.000Z',0,3,'2026-03-04T09:00:00.000Z',NULL,NULL,0,4,1);
CREATE TABLE _daily_counts (
	company_id BIGINT NOT NULL, 
	day VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	count BIGINT NOT NULL, 
	PRIMARY KEY (company_id, day, name)
)
 WITHOUT ROWID

;
INSERT INTO "_daily_counts" VALUES(5678,'2026-03-04T00:00:00.000Z','changed',5);
CREATE TABLE _erased_bodies (
	company_id BIGINT NOT NULL, 
	delivery_id VARCHAR NOT NULL, 
	PRIMARY KEY (company_id, delivery_id)
)
 WITHOUT ROWID

;
CREATE TABLE _erased_customers (
	company_id BIGINT NOT NULL, 
	mark VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	erased_at VARCHAR NOT NULL, 
	searched_at VARCHAR, 
	completed_at VARCHAR, 
	returned_at VARCHAR, 
	PRIMARY KEY (company_id, mark)
)
 WITHOUT ROWID

;
INSERT INTO "_erased_customers" VALUES(5678,'a-mark','a-key','2026-03-05T09:00:00.000Z',NULL,'2026-03-05T09:00:00.000Z','2026-03-06T09:00:00.000Z');
CREATE TABLE _gaps (
	company_id BIGINT NOT NULL, 
	id BIGINT NOT NULL, 
	what TEXT NOT NULL, 
	since VARCHAR, 
	until VARCHAR, 
	noticed_at VARCHAR NOT NULL, 
	seq BIGINT NOT NULL, 
	swept_at VARCHAR, 
	revision BIGINT, 
	mended_at VARCHAR, 
	created BIGINT, 
	updated BIGINT, 
	deleted BIGINT, 
	PRIMARY KEY (company_id, id)
)
 WITHOUT ROWID

;
INSERT INTO "_gaps" VALUES(5678,1,'Nobody listened','2026-03-06T09:00:00.000Z','2026-03-07T09:00:00.000Z','2026-03-07T09:00:00.000Z',4,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE _held_deletes (
	company_id BIGINT NOT NULL, 
	customer_id BIGINT NOT NULL, 
	missing_at VARCHAR NOT NULL, 
	PRIMARY KEY (company_id, customer_id)
)
 WITHOUT ROWID

;
INSERT INTO "_held_deletes" VALUES(5678,102,'2026-03-05T09:00:00.000Z');
CREATE TABLE _hourly_deliveries (
	company_id BIGINT NOT NULL, 
	hour VARCHAR NOT NULL, 
	count BIGINT NOT NULL, 
	PRIMARY KEY (company_id, hour)
)
 WITHOUT ROWID

;
INSERT INTO "_hourly_deliveries" VALUES(5678,'2026-03-04T09:00:00.000Z',3);
CREATE TABLE _oauth_tokens (
	company_id BIGINT NOT NULL, 
	sealed TEXT NOT NULL, 
	kept_at VARCHAR NOT NULL, 
	PRIMARY KEY (company_id)
)
 WITHOUT ROWID

;
INSERT INTO "_oauth_tokens" VALUES(5678,'sealed-and-invented','2026-03-02T09:00:00.000Z');
CREATE TABLE _past_verdicts (
	company_id BIGINT NOT NULL, 
	delivery_id VARCHAR NOT NULL, 
	replaced_at VARCHAR NOT NULL, 
	verdict VARCHAR NOT NULL, 
	reason TEXT, 
	applied_at VARCHAR NOT NULL, 
	PRIMARY KEY (company_id, delivery_id, replaced_at)
)
 WITHOUT ROWID

;
INSERT INTO "_past_verdicts" VALUES(5678,'018f7c2e-0000-7000-8000-000000000002','2026-03-03T09:00:00.000Z','failed','KeyError: ''tags''','2026-03-03T09:00:00.000Z');
CREATE TABLE _progress (
	company_id BIGINT NOT NULL, 
	inbox_id VARCHAR, 
	position BIGINT NOT NULL, 
	missing BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	revision BIGINT NOT NULL, 
	last_call_at VARCHAR, 
	closed_until VARCHAR, 
	upstream_failure TEXT, 
	upstream_failure_since VARCHAR, 
	ruled_elsewhere BIGINT DEFAULT '0' NOT NULL, 
	sweep_due VARCHAR, deletes_allowed_at VARCHAR, starts_seen BIGINT DEFAULT '0' NOT NULL, failed_commits_seen BIGINT DEFAULT '0' NOT NULL, alive_at VARCHAR, sweeps_asked BIGINT DEFAULT '0' NOT NULL, epoch BIGINT DEFAULT '0' NOT NULL, lease_holder VARCHAR, lease_until VARCHAR, lease_wanted_by VARCHAR, lease_wanted_at VARCHAR, 
	PRIMARY KEY (company_id)
)
 WITHOUT ROWID

;
INSERT INTO "_progress" VALUES(5678,'5f0c9a4e-8a51-4a0c-9c5e-0d8f5f1f2a11',3,0,4,7,NULL,NULL,NULL,NULL,0,NULL,NULL,2,1,'2026-03-08T09:00:00.000Z',0,0,NULL,NULL,NULL,NULL);
CREATE TABLE _registration (
	company_id BIGINT NOT NULL, 
	public_url TEXT NOT NULL, 
	ensured_at VARCHAR NOT NULL, 
	checked_at VARCHAR, 
	repairing BOOLEAN NOT NULL, 
	failure TEXT, 
	failure_since VARCHAR, 
	PRIMARY KEY (company_id)
)
 WITHOUT ROWID

;
INSERT INTO "_registration" VALUES(5678,'https://mirror.example/shop','2026-03-02T09:00:00.000Z','2026-03-03T09:00:00.000Z',0,NULL,NULL);
CREATE TABLE _status (
	company_id BIGINT NOT NULL, 
	live BIGINT NOT NULL, 
	deleted BIGINT NOT NULL, 
	verified BIGINT NOT NULL, 
	partial BIGINT NOT NULL, 
	listed_complete BOOLEAN NOT NULL, 
	attributes JSON NOT NULL, 
	oldest_verified_at VARCHAR, 
	last_delivery_at VARCHAR, 
	last_applied_at VARCHAR, 
	last_sweep_at VARCHAR, 
	verifications_due BIGINT NOT NULL, 
	drift_rate FLOAT, 
	PRIMARY KEY (company_id)
)
 WITHOUT ROWID

;
INSERT INTO "_status" VALUES(5678,2,1,1,1,1,'["name", "email", "phone", "address", "tags", "image", "accepts_marketing"]','2026-03-03T09:00:00.000Z','2026-03-04T09:00:00.000Z','2026-03-04T09:00:00.000Z','2026-03-01T09:00:00.000Z',1,NULL);
CREATE TABLE _sweeps (
	company_id BIGINT NOT NULL, 
	id BIGINT NOT NULL, 
	reason VARCHAR NOT NULL, 
	started_at VARCHAR NOT NULL, 
	finished_at VARCHAR, 
	complete BOOLEAN NOT NULL, 
	next_page TEXT, 
	listed BIGINT NOT NULL, 
	failure TEXT, 
	PRIMARY KEY (company_id, id)
)
 WITHOUT ROWID

;
INSERT INTO "_sweeps" VALUES(5678,1,'backfill','2026-03-01T09:00:00.000Z','2026-03-01T09:00:00.000Z',1,NULL,3,NULL);
CREATE TABLE _verdict_counts (
	company_id BIGINT NOT NULL, 
	verdict VARCHAR NOT NULL, 
	count BIGINT NOT NULL, 
	PRIMARY KEY (company_id, verdict)
)
 WITHOUT ROWID

;
INSERT INTO "_verdict_counts" VALUES(5678,'applied',2);
INSERT INTO "_verdict_counts" VALUES(5678,'tombstoned',1);
CREATE TABLE _verifications (
	company_id BIGINT NOT NULL, 
	customer_id BIGINT NOT NULL, 
	reason VARCHAR NOT NULL, 
	asked BOOLEAN NOT NULL, 
	priority INTEGER NOT NULL, 
	due_at VARCHAR NOT NULL, 
	revision BIGINT NOT NULL, 
	born BIGINT NOT NULL, 
	tries INTEGER NOT NULL, 
	not_before VARCHAR, 
	PRIMARY KEY (company_id, customer_id)
)
 WITHOUT ROWID

;
INSERT INTO "_verifications" VALUES(5678,102,'confirmation',0,4,'2026-03-03T09:00:00.000Z',7,7,0,NULL);
CREATE TABLE _webhook_attempts (
	company_id BIGINT NOT NULL, 
	topic VARCHAR NOT NULL, 
	address TEXT NOT NULL, 
	known JSON NOT NULL, 
	asked_at VARCHAR NOT NULL, 
	PRIMARY KEY (company_id, topic)
)
 WITHOUT ROWID

;
CREATE TABLE _webhooks (
	company_id BIGINT NOT NULL, 
	webhook_id BIGINT NOT NULL, 
	topic VARCHAR NOT NULL, 
	address TEXT NOT NULL, 
	since VARCHAR NOT NULL, 
	PRIMARY KEY (company_id, webhook_id)
)
 WITHOUT ROWID

;
INSERT INTO "_webhooks" VALUES(5678,9001,'customers/created','https://mirror.example/shop/webhooks/5678/customers/created','2026-03-02T09:00:00.000Z');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0008');
CREATE TABLE companies (
	company_id BIGINT NOT NULL, 
	name TEXT, 
	time_zone VARCHAR, 
	PRIMARY KEY (company_id)
)
 WITHOUT ROWID

;
INSERT INTO "companies" VALUES(5678,'Example Café','Australia/Sydney');
CREATE TABLE delivery_verdicts (
	company_id BIGINT NOT NULL, 
	delivery_id VARCHAR NOT NULL, 
	customer_id BIGINT, 
	topic VARCHAR NOT NULL, 
	verdict VARCHAR NOT NULL, 
	reason TEXT, 
	received_at VARCHAR NOT NULL, 
	applied_at VARCHAR NOT NULL, 
	PRIMARY KEY (company_id, delivery_id)
)
 WITHOUT ROWID

;
INSERT INTO "delivery_verdicts" VALUES(5678,'018f7c2e-0000-7000-8000-000000000001',101,'customers/created','applied',NULL,'2026-03-02T09:00:00.000Z','2026-03-02T09:00:00.000Z');
INSERT INTO "delivery_verdicts" VALUES(5678,'018f7c2e-0000-7000-8000-000000000002',102,'customers/updated','applied',NULL,'2026-03-03T09:00:00.000Z','2026-03-03T09:00:00.000Z');
INSERT INTO "delivery_verdicts" VALUES(5678,'018f7c2e-0000-7000-8000-000000000003',103,'customers/deleted','tombstoned',NULL,'2026-03-04T09:00:00.000Z','2026-03-04T09:00:00.000Z');
CREATE INDEX _changes_by_customer ON _changes (company_id, customer_id, seq);
CREATE INDEX _changes_that_delete ON _changes (company_id, applied_at) WHERE kind = 'deleted';
CREATE INDEX _customer_tags_by_tag ON _customer_tags (company_id, tag);
CREATE INDEX _customers_by_verification ON _customers (company_id, verified_at) WHERE deleted_at IS NULL;
CREATE INDEX _verifications_by_priority ON _verifications (company_id, priority, due_at);
CREATE INDEX _delivery_verdicts_in_trouble ON delivery_verdicts (company_id, verdict, applied_at) WHERE verdict = 'failed' OR verdict = 'quarantined';
CREATE VIEW customers AS SELECT _customers.company_id, _customers.id, _customers.first_name, _customers.last_name, _customers.email, _customers.phone, _customers.mobile, _customers.image, _customers.reference_id, _customers.accepts_marketing, _customers.tags, _customers.primary_address, _customers.primary_city, _customers.primary_state, _customers.primary_postal_code, _customers.primary_country, _customers.shipping_address, _customers.shipping_city, _customers.shipping_state, _customers.shipping_postal_code, _customers.shipping_country, _customers.other, _customers.as_of, _customers.first_seen_at, _customers.first_seen_by, _customers.changed_at, _customers.verified_at, _customers.partial FROM _customers WHERE _customers.deleted_at IS NULL;
CREATE VIEW all_customers AS SELECT _customers.company_id, _customers.id, _customers.first_name, _customers.last_name, _customers.email, _customers.phone, _customers.mobile, _customers.image, _customers.reference_id, _customers.accepts_marketing, _customers.tags, _customers.primary_address, _customers.primary_city, _customers.primary_state, _customers.primary_postal_code, _customers.primary_country, _customers.shipping_address, _customers.shipping_city, _customers.shipping_state, _customers.shipping_postal_code, _customers.shipping_country, _customers.other, _customers.as_of, _customers.first_seen_at, _customers.first_seen_by, _customers.changed_at, _customers.verified_at, _customers.partial, _customers.deleted_at FROM _customers;
CREATE VIEW customer_tags AS SELECT _customer_tags.company_id, _customer_tags.customer_id, _customer_tags.tag FROM _customer_tags;
CREATE VIEW customer_changes AS SELECT _changes.company_id, _changes.seq, _changes.customer_id, _changes.kind, _changes.attributes, _changes."before", _changes."after", _changes.as_of, _changes.source, _changes.delivery_id, _changes.applied_at FROM _changes;
CREATE VIEW customer_versions AS SELECT _changes.company_id, _changes.customer_id, _changes.first_name, _changes.last_name, _changes.email, _changes.phone, _changes.mobile, _changes.image, _changes.reference_id, _changes.accepts_marketing, _changes.tags, _changes.primary_address, _changes.primary_city, _changes.primary_state, _changes.primary_postal_code, _changes.primary_country, _changes.shipping_address, _changes.shipping_city, _changes.shipping_state, _changes.shipping_postal_code, _changes.shipping_country, _changes.other, _changes.as_of, _changes.applied_at AS valid_from, _changes.valid_to, _changes.seq FROM _changes WHERE (_changes.kind NOT IN ('deleted', 'erased'));
CREATE VIEW mirror_status AS SELECT _status.company_id, _status.live, _status.deleted, _status.verified, _status.partial, _status.listed_complete, _status.attributes, _status.oldest_verified_at, _status.last_delivery_at, _status.last_applied_at, _status.last_sweep_at, _status.verifications_due, _status.drift_rate FROM _status;
CREATE TRIGGER _customer_tags_of_new AFTER INSERT ON _customers WHEN NEW.tags IS NOT NULL BEGIN INSERT INTO _customer_tags (company_id, customer_id, place, tag) SELECT NEW.company_id, NEW.id, key, value FROM json_each(NEW.tags) WHERE NEW.deleted_at IS NULL; END;
CREATE TRIGGER _customer_tags_of_changed AFTER UPDATE ON _customers WHEN OLD.tags IS NOT NEW.tags OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL) BEGIN DELETE FROM _customer_tags WHERE company_id = OLD.company_id AND customer_id = OLD.id; INSERT INTO _customer_tags (company_id, customer_id, place, tag) SELECT NEW.company_id, NEW.id, key, value FROM json_each(NEW.tags) WHERE NEW.deleted_at IS NULL; END;
CREATE INDEX _delivery_verdicts_by_customer ON delivery_verdicts (company_id, customer_id, delivery_id);
COMMIT;
