-- What is known of the store itself: `kind` of all its figures, `last` moment that was written.
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;

-- What changes seldom is kept once, as it was last.
CREATE TABLE gpus (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT,
    pci TEXT,
    compute_capability TEXT,
    gpu_instance INTEGER,
    compute_instance INTEGER,
    vram INTEGER,
    power_limit INTEGER,
    slowdown_temperature INTEGER,
    shutdown_temperature INTEGER
);

-- One GPU at one moment. NULL is unknown. Times are milliseconds since 1970.
CREATE TABLE samples (
    gpu INTEGER NOT NULL,
    at INTEGER NOT NULL,
    memory_used INTEGER,
    utilization INTEGER,
    temperature INTEGER,
    power INTEGER,
    sm_clock INTEGER,
    memory_clock INTEGER,
    pcie_generation INTEGER,
    pcie_width INTEGER,
    throttle INTEGER,
    corrected_errors INTEGER,
    uncorrected_errors INTEGER,
    PRIMARY KEY (gpu, at)
) WITHOUT ROWID;

CREATE TABLE minutes (
    gpu INTEGER NOT NULL,
    metric INTEGER NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    sum INTEGER,
    min INTEGER,
    max INTEGER,
    PRIMARY KEY (gpu, metric, at)
) WITHOUT ROWID;

CREATE TABLE hours (
    gpu INTEGER NOT NULL,
    metric INTEGER NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    sum INTEGER,
    min INTEGER,
    max INTEGER,
    PRIMARY KEY (gpu, metric, at)
) WITHOUT ROWID;

-- Minutes (1) and hours (2) that something was written in since they were rolled up.
CREATE TABLE unrolled (level INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (level, at)) WITHOUT ROWID;

-- A process on a GPU: one that uses two is two.
CREATE TABLE processes (
    id INTEGER PRIMARY KEY,
    gpu INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    started INTEGER,
    uid INTEGER,
    user TEXT,
    command TEXT,
    project TEXT,
    kinds TEXT NOT NULL,
    stranger INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    memory_max INTEGER
);
CREATE INDEX processes_by_last ON processes (last);
CREATE INDEX processes_by_pid ON processes (gpu, pid, started);

-- Samples that follow each other and say the same are one row, an hour at most: `span` milliseconds lie between the first and the last.
-- `place` is 0 where it is right, and 1 where it is wrong.
CREATE TABLE process_samples (
    process INTEGER NOT NULL,
    at INTEGER NOT NULL,
    span INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    memory INTEGER,
    utilization INTEGER,
    leased INTEGER,
    place INTEGER,
    PRIMARY KEY (process, at)
) WITHOUT ROWID;

CREATE TABLE leases (
    id INTEGER PRIMARY KEY,
    gpu INTEGER NOT NULL,
    number INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    pid INTEGER,
    command TEXT,
    came INTEGER,
    held INTEGER,
    used INTEGER,
    first INTEGER NOT NULL,
    holds_from INTEGER,
    last INTEGER NOT NULL
);
CREATE INDEX leases_by_last ON leases (last);
CREATE INDEX leases_by_number ON leases (gpu, number);

-- Times of which nothing is known, of the `machine` or its `leases`, or because nothing was kept (`recording`, `store`).
CREATE TABLE gaps (
    what TEXT NOT NULL,
    at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (what, at)
) WITHOUT ROWID;

CREATE TABLE xids (
    at INTEGER NOT NULL,
    gpu INTEGER NOT NULL,
    number INTEGER NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (at, gpu, number)
) WITHOUT ROWID;

-- Alerts, verdicts and what happened to the store. The detail is JSON.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    gpu INTEGER,
    detail TEXT NOT NULL
);
CREATE INDEX events_by_at ON events (at);
