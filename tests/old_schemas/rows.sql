-- What the invented shop has stored: added once a migration (store, version) has brought the tables in.

-- inbox 0001
INSERT INTO identity VALUES
  (1, '5f0c9a4e-8a51-4a0c-9c5e-0d8f5f1f2a11', '2026-03-01T09:00:00.000Z');
INSERT INTO deliveries (position, id, company_id, topic, received_at, headers, body) VALUES
  (1, '018f7c2e-0000-7000-8000-000000000001', 5678, 'customers/created', '2026-03-02T09:00:00.000Z', '{}', x'7b226964223a203130312c202266697273745f6e616d65223a2022416461222c2022757064617465645f6174223a2022323032362d30332d30325432303a30303a30302b31313a3030227d'),
  (2, '018f7c2e-0000-7000-8000-000000000002', 5678, 'customers/updated', '2026-03-03T09:00:00.000Z', '{}', x'7b226964223a203130322c202266697273745f6e616d65223a20225a6fc3ab222c2022757064617465645f6174223a2022323032362d30332d30335432303a30303a30302b31313a3030227d'),
  (3, '018f7c2e-0000-7000-8000-000000000003', 5678, 'customers/deleted', '2026-03-04T09:00:00.000Z', '{}', x'7b226964223a203130332c202266697273745f6e616d65223a202243656d222c2022757064617465645f6174223a2022323032362d30332d30345432303a30303a30302b31313a3030227d'),
  (4, '018f7c2e-0000-7000-8000-000000000004', 5678, 'customers/updated', '2026-03-05T09:00:00.000Z', '{}', x'7b226964223a203130312c202266697273745f6e616d65223a20224164616c696e65222c2022757064617465645f6174223a2022323032362d30332d30355432303a30303a30302b31313a3030227d');
INSERT INTO accepted (company_id, count) VALUES
  (5678, 4);
INSERT INTO refusals VALUES
  (5678, 'signature_invalid', 3, '2026-03-01T09:00:00.000Z', '2026-03-02T09:00:00.000Z');
INSERT INTO starts (number, started_at, stopped_at) VALUES
  (1, '2026-03-01T09:00:00.000Z', '2026-03-06T09:00:00.000Z');
INSERT INTO failed_commits (number, first_at, last_at, refused, reason) VALUES
  (1, '2026-03-03T09:00:00.000Z', '2026-03-03T09:00:00.000Z', 2, 'database or disk is full');

-- inbox 0002
INSERT INTO starts (number, started_at, seen_at) VALUES
  (2, '2026-03-07T09:00:00.000Z', '2026-03-08T09:00:00.000Z');

-- inbox 0004
INSERT INTO tokens VALUES
  (5678, '0badc0de0badc0de', '2026-03-02T09:00:00.000Z', '2026-03-08T09:00:00.000Z');

-- mirror 0001
INSERT INTO _customers (company_id, id, first_name, last_name, email, phone, reference_id, accepts_marketing, tags, primary_city, other, as_of, first_seen_at, first_seen_by, changed_at, verified_at, partial, deleted_at, rests_on_arrival, position, settled_at, read_position, last_seq, listed_in) VALUES
  (5678, 101, 'Ada', 'Example', 'ada@shop.example', '02 5550 1001', 'A-1', 1, '["vip", "gold"]', 'Sydney', '{"colour": "teal"}', '2026-03-02T09:00:00.000Z', '2026-03-01T09:00:00.000Z', 'backfill', '2026-03-02T09:00:00.000Z', '2026-03-03T09:00:00.000Z', 0, NULL, 0, 1, '2026-03-03T09:00:00.000Z', 1, 3, 1),
  (5678, 102, 'Zoë', NULL, NULL, NULL, '', NULL, '[]', NULL, NULL, '2026-03-03T09:00:00.000Z', '2026-03-03T09:00:00.000Z', 'webhook', '2026-03-03T09:00:00.000Z', NULL, 1, NULL, 1, 2, '2026-03-03T09:00:00.000Z', 0, 2, 1),
  (5678, 103, 'Cem', 'Sample', 'cem@shop.example', NULL, '', 0, '[]', 'Perth', NULL, '2026-03-04T09:00:00.000Z', '2026-03-01T09:00:00.000Z', 'sweep', '2026-03-04T09:00:00.000Z', NULL, 0, '2026-03-04T09:00:00.000Z', 0, 3, '2026-03-04T09:00:00.000Z', 0, 4, 1);
INSERT INTO _changes (company_id, seq, customer_id, kind, attributes, before, after, as_of, source, delivery_id, applied_at, first_name, tags, valid_to) VALUES
  (5678, 1, 101, 'created', '["name"]', NULL, '{"first_name": "Ada"}', '2026-03-01T09:00:00.000Z', 'backfill', NULL, '2026-03-01T09:00:00.000Z', 'Ada', '[]', '2026-03-02T09:00:00.000Z'),
  (5678, 2, 102, 'created', '["name"]', NULL, '{"first_name": "Zoë"}', '2026-03-03T09:00:00.000Z', 'webhook', '018f7c2e-0000-7000-8000-000000000002', '2026-03-03T09:00:00.000Z', 'Zoë', '[]', NULL),
  (5678, 3, 101, 'updated', '["tags"]', '{"tags": []}', '{"tags": ["vip", "gold"]}', '2026-03-02T09:00:00.000Z', 'webhook', '018f7c2e-0000-7000-8000-000000000001', '2026-03-02T09:00:00.000Z', 'Ada', '["vip", "gold"]', NULL),
  (5678, 4, 103, 'deleted', '[]', NULL, NULL, '2026-03-04T09:00:00.000Z', 'webhook', '018f7c2e-0000-7000-8000-000000000003', '2026-03-04T09:00:00.000Z', NULL, NULL, NULL);
INSERT INTO _held_deletes (company_id, customer_id, missing_at) VALUES
  (5678, 102, '2026-03-05T09:00:00.000Z');
INSERT INTO _past_verdicts VALUES
  (5678, '018f7c2e-0000-7000-8000-000000000002', '2026-03-03T09:00:00.000Z', 'failed', 'KeyError: ''tags''', '2026-03-03T09:00:00.000Z');
INSERT INTO _progress (company_id, inbox_id, position, missing, seq, revision, ruled_elsewhere) VALUES
  (5678, '5f0c9a4e-8a51-4a0c-9c5e-0d8f5f1f2a11', 3, 0, 4, 7, 0);
INSERT INTO _status (company_id, live, deleted, verified, partial, listed_complete, attributes, oldest_verified_at, last_delivery_at, last_applied_at, last_sweep_at, verifications_due) VALUES
  (5678, 2, 1, 1, 1, 1, '["name", "email", "phone", "address", "tags", "image", "accepts_marketing"]', '2026-03-03T09:00:00.000Z', '2026-03-04T09:00:00.000Z', '2026-03-04T09:00:00.000Z', '2026-03-01T09:00:00.000Z', 1);
INSERT INTO _sweeps (company_id, id, reason, started_at, finished_at, complete, listed) VALUES
  (5678, 1, 'backfill', '2026-03-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z', 1, 3);
INSERT INTO _verdict_counts VALUES
  (5678, 'applied', 2),
  (5678, 'tombstoned', 1);
INSERT INTO _verifications (company_id, customer_id, reason, asked, priority, due_at, revision, born, tries) VALUES
  (5678, 102, 'confirmation', 0, 4, '2026-03-03T09:00:00.000Z', 7, 7, 0);
INSERT INTO companies (company_id, name, time_zone) VALUES
  (5678, 'Example Café', 'Australia/Sydney');
INSERT INTO delivery_verdicts (company_id, delivery_id, customer_id, topic, verdict, reason, received_at, applied_at) VALUES
  (5678, '018f7c2e-0000-7000-8000-000000000001', 101, 'customers/created', 'applied', NULL, '2026-03-02T09:00:00.000Z', '2026-03-02T09:00:00.000Z'),
  (5678, '018f7c2e-0000-7000-8000-000000000002', 102, 'customers/updated', 'applied', NULL, '2026-03-03T09:00:00.000Z', '2026-03-03T09:00:00.000Z'),
  (5678, '018f7c2e-0000-7000-8000-000000000003', 103, 'customers/deleted', 'tombstoned', NULL, '2026-03-04T09:00:00.000Z', '2026-03-04T09:00:00.000Z');

-- mirror 0002
INSERT INTO _registration VALUES
  (5678, 'https://mirror.example/shop', '2026-03-02T09:00:00.000Z', '2026-03-03T09:00:00.000Z', 0, NULL, NULL);
INSERT INTO _webhooks VALUES
  (5678, 9001, 'customers/created', 'https://mirror.example/shop/webhooks/5678/customers/created', '2026-03-02T09:00:00.000Z');

-- mirror 0003
INSERT INTO _oauth_tokens VALUES
  (5678, 'sealed-and-invented', '2026-03-02T09:00:00.000Z');

-- mirror 0004
INSERT INTO _daily_counts VALUES
  (5678, '2026-03-04T00:00:00.000Z', 'changed', 5);
UPDATE _progress SET starts_seen = 2, failed_commits_seen = 1, alive_at = '2026-03-08T09:00:00.000Z';

-- mirror 0005
INSERT INTO _gaps (company_id, id, what, since, until, noticed_at, seq) VALUES
  (5678, 1, 'Nobody listened', '2026-03-06T09:00:00.000Z', '2026-03-07T09:00:00.000Z', '2026-03-07T09:00:00.000Z', 4);
INSERT INTO _hourly_deliveries VALUES
  (5678, '2026-03-04T09:00:00.000Z', 3);
INSERT INTO _alerts (company_id, id, name, severity, sentence, since, opened_at) VALUES
  (5678, 1, 'gap', 1, 'Nobody listened', '2026-03-06T09:00:00.000Z', '2026-03-07T09:00:00.000Z');

-- mirror 0008
INSERT INTO _erased_customers (company_id, mark, key_id, erased_at, completed_at, returned_at) VALUES
  (5678, 'a-mark', 'a-key', '2026-03-05T09:00:00.000Z', '2026-03-05T09:00:00.000Z', '2026-03-06T09:00:00.000Z');

-- mirror 0009
INSERT INTO _samples (company_id, at, pending, oldest_pending_seconds, verifications_due) VALUES
  (5678, '2026-03-08T09:00:00.000Z', 0, 0.0, 1);

-- mirror 0010
INSERT INTO company_days VALUES
  (5678, '2026-03-04', '2026-03-03T13:00:00.000Z', '2026-03-04T13:00:00.000Z');

-- mirror 0012
INSERT INTO _lost_bodies VALUES
  (5678, 'a-digest', '2026-03-05T09:00:00.000Z');

-- mirror 0013
INSERT INTO _observations VALUES
  (5678, 'updated_at_is_now', 12, '2026-03-01T09:00:00.000Z', '2026-03-08T09:00:00.000Z');
