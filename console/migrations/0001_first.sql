-- One set of statements for SQLite and PostgreSQL. Times are RFC 3339 in UTC with milliseconds, so that they sort as
-- text; identifiers are UUIDs (version 7 where the order of making matters); truth values are 0 and 1; what is `sealed`
-- is base64 of ChaCha20-Poly1305 under the data key, bound to table, column and row.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,                  -- as in 'ca', 'require-approval', 'unhealthy-after-seconds'
    value TEXT NOT NULL                     -- JSON, or sealed where it is a secret
);

CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,                 -- argon2id, PHC string
    role TEXT NOT NULL,                     -- administrator, operator, viewer
    must_change BIGINT NOT NULL,            -- the password, before anything else
    disabled BIGINT NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,                    -- SHA-256 of the cookie, hexadecimal
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    csrf TEXT NOT NULL,
    address TEXT NOT NULL,
    created_at TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,              -- SHA-256 of the token, hexadecimal
    name TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    used_at TEXT,
    parent TEXT REFERENCES tokens (id) ON DELETE CASCADE -- the token that it was made with, if it was
);

CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    actor TEXT NOT NULL,                    -- account name, 'NAME, token TOKEN', 'gateway NAME', 'stranger', 'console'
    address TEXT NOT NULL,
    action TEXT NOT NULL,                   -- as in 'gateway.create', 'login.failed'
    subject TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT ''
);
CREATE INDEX audit_time ON audit (time);

CREATE TABLE gateways (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL,                    -- awaiting-pairing, pending, provisioning, running, deleting, deleted
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    paired_at TEXT,
    deleted_at TEXT,
    device_key TEXT,                        -- base64; none before pairing and after deletion
    facts TEXT NOT NULL DEFAULT '{}',       -- JSON of what the claim said: vm_uuid, hostname, address it came from
    configuration TEXT,                     -- JSON; passwords in it are sealed
    heartbeat TEXT,                         -- JSON of the newest one
    heartbeat_at TEXT,                      -- by the console's clock
    spool TEXT,
    acknowledged BIGINT NOT NULL DEFAULT 0  -- of that spool
);
CREATE UNIQUE INDEX gateways_name ON gateways (name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX gateways_device_key ON gateways (device_key) WHERE device_key IS NOT NULL;

CREATE TABLE pairings (
    id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL REFERENCES gateways (id),
    locator TEXT NOT NULL,
    secret TEXT,                            -- sealed; gone when the pairing is over
    state TEXT NOT NULL,                    -- pending, claimed (waits for approval), paired, expired, locked, cancelled
    attempts_left BIGINT NOT NULL,
    approval BIGINT NOT NULL DEFAULT 0,     -- whether a person must approve
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    last_attempt_at TEXT,
    last_attempt_from TEXT
);
-- Unique among those that wait.
CREATE UNIQUE INDEX pairings_locator ON pairings (locator) WHERE state IN ('pending', 'claimed');
-- A gateway has one code that is good, whoever makes one at the same moment.
CREATE UNIQUE INDEX pairings_waiting ON pairings (gateway) WHERE state IN ('pending', 'claimed');
CREATE INDEX pairings_gateway ON pairings (gateway);

CREATE TABLE pairing_sessions (
    id TEXT PRIMARY KEY,
    pairing TEXT REFERENCES pairings (id),  -- none: the locator is nobody's, and this is a decoy
    start TEXT NOT NULL UNIQUE,             -- SHA-256 of locator and message 1, hexadecimal
    started TEXT NOT NULL,                  -- message 2, JSON
    keys TEXT,                              -- sealed; gone when the session is over
    confirm TEXT,                           -- SHA-256 of message 3, hexadecimal
    claim TEXT,                             -- JSON, while a person is asked
    confirmed TEXT,                         -- sealed: message 4, JSON
    number TEXT,                            -- to compare, six digits
    state TEXT NOT NULL,                    -- started, waiting, granted, refused
    address TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);

CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL REFERENCES gateways (id),
    time TEXT NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    arguments TEXT NOT NULL,                -- JSON, sealed; empty once it is over
    delivered_at TEXT,
    outcome TEXT,                           -- done, failed, unsupported, cancelled; none: it is still to be done
    message TEXT NOT NULL DEFAULT '',
    finished_at TEXT
);
CREATE INDEX commands_open ON commands (gateway, id) WHERE outcome IS NULL;
CREATE INDEX commands_gateway ON commands (gateway, id);
CREATE INDEX commands_time ON commands (time);

CREATE TABLE conditions (
    gateway TEXT NOT NULL REFERENCES gateways (id),
    kind TEXT NOT NULL,
    status TEXT NOT NULL,                   -- True, False, Unknown
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    transition_at TEXT NOT NULL,
    PRIMARY KEY (gateway, kind)
);

CREATE TABLE events (
    id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL REFERENCES gateways (id),
    time TEXT NOT NULL,                     -- by the machine's clock
    received_at TEXT NOT NULL,
    severity TEXT NOT NULL,                 -- info, warning, error
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    source TEXT NOT NULL
);
CREATE INDEX events_gateway ON events (gateway, id);

CREATE TABLE replays (
    nonce TEXT PRIMARY KEY,                 -- device key and nonce of a signed request
    expires_at TEXT NOT NULL
);
CREATE INDEX replays_expiry ON replays (expires_at);
