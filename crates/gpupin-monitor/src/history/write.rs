//! From moments to rows.

use std::collections::{BTreeMap, btree_map::Entry};

use gpupin_device::Throttle;
use gpupin_policy::GpuUuid;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Event, Level, Retention, integer, natural, retain, roll};
use crate::{
    moment::{Moment, Ticket},
    people::Place,
    snapshot::{GpuNow, ProcessNow, Use},
};

/// Between two moments that follow each other is at most this. In milliseconds.
const QUIET: u64 = 5_000;

/// A clock that leaps ahead by this or more may have been set wrong.
const LEAP: u64 = 3_600_000;

/// A row of samples that say the same is about this at most, so that whoever looks for a time knows how far back to look.
pub(super) const SPAN: u64 = 3_600_000;

/// A connection that writes, and what it knows of the file.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    known: Known,
}

#[derive(Debug, Default)]
struct Known {
    /// The last moment that was written, by this writer or one before.
    last: Option<u64>,
    /// The last moment in which the machine answered, by this writer.
    answered: Option<u64>,
    /// Whether nothing was written by this writer.
    is_new: bool,
    minute: Option<u64>,
    gpus: BTreeMap<GpuUuid, (i64, Option<Facts>)>,
    processes: BTreeMap<(i64, u32, Option<u64>), Watched>,
    leases: BTreeMap<(i64, u64, Option<u64>), i64>,
    /// Gaps that go on: since when, and why.
    gaps: BTreeMap<&'static str, (u64, String)>,
    /// Nothing is deleted for its age before.
    ages_from: u64,
    /// When it was last looked what is too old.
    retained: Option<u64>,
}

/// What changes seldom.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    name: String,
    pci: String,
    compute_capability: String,
    mig: Option<(u32, u32)>,
    vram: u64,
    power_limit: Option<u32>,
    slowdown_temperature: Option<u32>,
    shutdown_temperature: Option<u32>,
}

#[derive(Debug)]
struct Watched {
    id: i64,
    kinds: String,
    span: Option<Span>,
}

/// Samples that said the same.
#[derive(Debug)]
struct Span {
    at: u64,
    until: u64,
    says: Says,
}

#[derive(Debug, PartialEq, Eq)]
struct Says {
    memory: Option<u64>,
    utilization: Option<u32>,
    leased: Option<bool>,
    place: Option<Place>,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Self> {
        let mut known = Known { is_new: true, ..Known::default() };
        {
            let mut gpus = connection.prepare("SELECT uuid, id FROM gpus")?;
            let mut rows = gpus.query([])?;
            while let Some(row) = rows.next()? {
                let uuid: String = row.get(0)?;
                if let Ok(uuid) = uuid.parse() {
                    known.gpus.insert(uuid, (row.get(1)?, None));
                }
            }
        }
        known.last = connection
            .query_row("SELECT value FROM meta WHERE name = 'last'", [], |row| row.get(0))
            .optional()?
            .map(natural);
        Ok(Self { connection, known })
    }

    /// Writes moments in one transaction. `lost` says since when moments were dropped, and why.
    pub(super) fn write(
        &mut self,
        moments: &[Moment],
        lost: Option<(u64, &str)>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        if let (Some((since, why)), Some(first)) = (lost, moments.first()) {
            note_gap(&transaction, "store", since.min(first.at), first.at, why)?;
        }
        for moment in moments {
            self.known.moment(&transaction, moment, lost.is_some())?;
        }
        if let Some(last) = self.known.last {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('last', ?)")?
                .execute([integer(last)])?;
        }
        transaction.commit()
    }

    pub(super) fn note(&mut self, event: &Event) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        self.known.event(&transaction, event)?;
        transaction.commit()
    }

    /// Deletes what is too old or too much, every ten minutes and at the start.
    pub(super) fn retain(&mut self, retention: &Retention, now: u64) -> rusqlite::Result<()> {
        const OFTEN: u64 = 600_000;
        let known = &mut self.known;
        if known.retained.is_some_and(|it| it / OFTEN == now / OFTEN) {
            return Ok(());
        }
        known.retained = Some(now);
        if now >= known.ages_from {
            retain::age(&self.connection, retention, now)?;
        }
        retain::size(&self.connection, retention.size)
    }
}

impl Known {
    fn moment(
        &mut self,
        transaction: &Transaction<'_>,
        moment: &Moment,
        is_after_loss: bool,
    ) -> rusqlite::Result<()> {
        let at = moment.at;
        self.clock(transaction, at, is_after_loss)?;
        let minute = Level::Minute.start(at);
        if self.minute != Some(minute) {
            roll::mark(transaction, at)?;
            roll::all_but(transaction, at)?;
            self.minute = Some(minute);
        }
        let silent = moment.machine.is_none();
        let why = silent.then(|| moment.gap.as_deref().unwrap_or("the machine did not answer"));
        self.gap(transaction, "machine", at, why)?;
        let why = moment.leases.is_none().then_some("leases were not asked for, or not readable");
        self.gap(transaction, "leases", at, why)?;
        if moment.machine.is_some() {
            let mut seen = Vec::new();
            for gpu in moment.gpus() {
                let id = self.gpu(transaction, gpu)?;
                sample(transaction, id, at, gpu)?;
                for process in &gpu.processes {
                    self.process(transaction, id, at, process)?;
                    seen.push((id, process.pid, process.started));
                }
            }
            seen.sort_unstable();
            self.processes.retain(|key, _| seen.binary_search(key).is_ok());
            self.answered = Some(at);
        }
        if let Some(tickets) = &moment.leases {
            let mut seen = Vec::new();
            for ticket in tickets {
                seen.push(self.lease(transaction, at, ticket)?);
            }
            self.leases.retain(|key, _| seen.contains(key));
        }
        for xid in &moment.xids {
            let gpu = self.gpu_id(transaction, &xid.gpu)?;
            transaction
                .prepare_cached(
                    "INSERT INTO xids VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
                )?
                .execute(params![integer(xid.at), gpu, integer(xid.number)])?;
        }
        self.last = Some(at);
        self.is_new = false;
        Ok(())
    }

    /// What the time of a moment says about the time before.
    fn clock(
        &mut self,
        transaction: &Transaction<'_>,
        at: u64,
        is_after_loss: bool,
    ) -> rusqlite::Result<()> {
        let Some(last) = self.last else { return Ok(()) };
        if at < last {
            let detail = serde_json::json!({ "from": last, "to": at });
            let event = Event { at, kind: "clock-jump".to_owned(), gpu: None, detail };
            self.event(transaction, &event)?;
            self.ages_from = 0;
            self.gaps.clear();
            self.processes.values_mut().for_each(|it| it.span = None);
            return Ok(());
        }
        let between = at - last;
        if between >= LEAP {
            self.ages_from = at.saturating_add(LEAP);
        }
        if between > QUIET && !is_after_loss {
            let why = if self.is_new {
                "nobody watched"
            } else {
                "no moment came: gpupin or the machine stood still, or the clock was set"
            };
            note_gap(transaction, "recording", last, at, why)?;
        }
        Ok(())
    }

    fn event(&mut self, transaction: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
        let gpu = event.gpu.as_ref().map(|it| self.gpu_id(transaction, it)).transpose()?;
        transaction
            .prepare_cached("INSERT INTO events (at, kind, gpu, detail) VALUES (?, ?, ?, ?)")?
            .execute(params![integer(event.at), event.kind, gpu, event.detail.to_string()])?;
        Ok(())
    }

    /// Begins, goes on with or ends a gap.
    fn gap(
        &mut self,
        transaction: &Transaction<'_>,
        what: &'static str,
        at: u64,
        why: Option<&str>,
    ) -> rusqlite::Result<()> {
        if let Some((from, before)) = self.gaps.get(what) {
            // One that began later than now is of another clock.
            if *from <= at {
                note_gap(transaction, what, *from, at, before)?;
            }
            if why == Some(before) {
                return Ok(());
            }
        }
        match why {
            Some(why) => {
                note_gap(transaction, what, at, at, why)?;
                self.gaps.insert(what, (at, why.to_owned()));
            }
            None => drop(self.gaps.remove(what)),
        }
        Ok(())
    }

    fn gpu_id(&mut self, transaction: &Transaction<'_>, uuid: &GpuUuid) -> rusqlite::Result<i64> {
        if let Some((id, _)) = self.gpus.get(uuid) {
            return Ok(*id);
        }
        transaction.execute("INSERT INTO gpus (uuid) VALUES (?)", [uuid.as_str()])?;
        let id = transaction.last_insert_rowid();
        self.gpus.insert(uuid.clone(), (id, None));
        Ok(id)
    }

    fn gpu(&mut self, transaction: &Transaction<'_>, gpu: &GpuNow) -> rusqlite::Result<i64> {
        let id = self.gpu_id(transaction, &gpu.uuid)?;
        let facts = Facts {
            name: gpu.name.clone(),
            pci: gpu.pci.clone(),
            compute_capability: gpu.compute_capability.clone(),
            mig: gpu.mig,
            vram: gpu.vram,
            power_limit: gpu.power_limit,
            slowdown_temperature: gpu.slowdown_temperature,
            shutdown_temperature: gpu.shutdown_temperature,
        };
        let (_, known) = self.gpus.get_mut(&gpu.uuid).expect("it was just looked up");
        if known.as_ref() != Some(&facts) {
            transaction
                .prepare_cached(
                    "UPDATE gpus SET name = ?, pci = ?, compute_capability = ?, gpu_instance = ?, compute_instance = ?, vram = ?, \
                     power_limit = ?, slowdown_temperature = ?, shutdown_temperature = ? WHERE id = ?",
                )?
                .execute(params![
                    facts.name,
                    facts.pci,
                    facts.compute_capability,
                    facts.mig.map(|it| it.0),
                    facts.mig.map(|it| it.1),
                    integer(facts.vram),
                    facts.power_limit,
                    facts.slowdown_temperature,
                    facts.shutdown_temperature,
                    id
                ])?;
            *known = Some(facts);
        }
        Ok(id)
    }

    fn process(
        &mut self,
        transaction: &Transaction<'_>,
        gpu: i64,
        at: u64,
        process: &ProcessNow,
    ) -> rusqlite::Result<()> {
        let key = (gpu, process.pid, process.started);
        let kinds: Vec<_> = process.kinds.iter().map(|it| Use::as_str(*it)).collect();
        let kinds = kinds.join("+");
        let watched = match self.processes.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let id = process_id(transaction, gpu, at, process, &kinds)?;
                entry.insert(Watched { id, kinds: kinds.clone(), span: None })
            }
        };
        if watched.kinds != kinds {
            transaction
                .prepare_cached("UPDATE processes SET kinds = ? WHERE id = ?")?
                .execute(params![kinds, watched.id])?;
            watched.kinds = kinds;
        }
        transaction
            .prepare_cached(
                "UPDATE processes SET last = max(last, ?), memory_max = max(coalesce(memory_max, ?), coalesce(?, memory_max)) WHERE id = ?",
            )?
            .execute(params![
                integer(at),
                process.memory.map(integer),
                process.memory.map(integer),
                watched.id
            ])?;
        let says = Says {
            memory: process.memory,
            utilization: process.utilization,
            leased: process.leased,
            place: process.place,
        };
        let goes_on = watched.span.as_ref().is_some_and(|it| {
            it.says == says
                && Some(it.until) == self.answered
                && at > it.until
                && at - it.until <= QUIET
                && at - it.at < SPAN
        });
        if let Some(span) = watched.span.as_mut().filter(|_| goes_on) {
            span.until = at;
            transaction
                .prepare_cached(
                    "UPDATE process_samples SET span = ?, samples = samples + 1 WHERE process = ? AND at = ?",
                )?
                .execute(params![integer(at - span.at), watched.id, integer(span.at)])?;
            return Ok(());
        }
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO process_samples VALUES (?, ?, 0, 1, ?, ?, ?, ?)",
            )?
            .execute(params![
                watched.id,
                integer(at),
                says.memory.map(integer),
                says.utilization,
                says.leased,
                says.place.map(place)
            ])?;
        watched.span = Some(Span { at, until: at, says });
        Ok(())
    }

    fn lease(
        &mut self,
        transaction: &Transaction<'_>,
        at: u64,
        ticket: &Ticket,
    ) -> rusqlite::Result<(i64, u64, Option<u64>)> {
        let gpu = self.gpu_id(transaction, &ticket.gpu)?;
        let key = (gpu, ticket.number, ticket.came);
        let (number, came) = (integer(ticket.number), ticket.came.map(integer));
        let id = if let Some(id) = self.leases.get(&key) {
            *id
        } else {
            // Numbers begin anew where the directory of leases does.
            let before = transaction
                .prepare_cached(
                    "SELECT id FROM leases WHERE gpu = ? AND number = ? AND came IS ? AND uid = ? AND pid IS ? AND came IS NOT NULL",
                )?
                .query_row(params![gpu, number, came, ticket.uid, ticket.pid], |row| row.get(0))
                .optional()?;
            let id = if let Some(id) = before {
                id
            } else {
                transaction
                    .prepare_cached(
                        "INSERT INTO leases (gpu, number, slots, uid, pid, command, came, first, last) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
                    )?
                    .execute(params![
                        gpu,
                        number,
                        ticket.slots,
                        ticket.uid,
                        ticket.pid,
                        ticket.command,
                        came,
                        integer(at)
                    ])?;
                transaction.last_insert_rowid()
            };
            self.leases.insert(key, id);
            id
        };
        let holds = ticket.position == 0;
        transaction
            .prepare_cached(
                "UPDATE leases SET last = max(last, ?1), holds_from = coalesce(holds_from, ?2), held = ?3, used = coalesce(?4, used), \
                 pid = coalesce(?5, pid), command = coalesce(?6, command) WHERE id = ?7",
            )?
            .execute(params![
                integer(at),
                holds.then(|| integer(at)),
                ticket.held.map(integer),
                ticket.used.map(|it| integer(it.0)),
                ticket.pid,
                ticket.command,
                id
            ])?;
        Ok(key)
    }
}

fn note_gap(
    transaction: &Transaction<'_>,
    what: &str,
    at: u64,
    until: u64,
    why: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO gaps VALUES (?, ?, ?, ?)")?
        .execute(params![what, integer(at), integer(until), why])?;
    Ok(())
}

fn sample(transaction: &Transaction<'_>, id: i64, at: u64, gpu: &GpuNow) -> rusqlite::Result<()> {
    let throttle = gpu.throttle.as_ref();
    let throttle = throttle.map(|it| it.iter().fold(0, |bits, it| bits | Throttle::bit(*it)));
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            id,
            integer(at),
            gpu.memory_used.map(integer),
            gpu.utilization,
            gpu.temperature,
            gpu.power,
            gpu.sm_clock,
            gpu.memory_clock,
            gpu.pcie.map(|it| it.generation),
            gpu.pcie.map(|it| it.width),
            throttle.map(integer),
            gpu.corrected_errors.map(integer),
            gpu.uncorrected_errors.map(integer)
        ])?;
    Ok(())
}

/// The row of a process that is new to this writer. One that was seen before it began is known by its start.
fn process_id(
    transaction: &Transaction<'_>,
    gpu: i64,
    at: u64,
    process: &ProcessNow,
    kinds: &str,
) -> rusqlite::Result<i64> {
    let started = process.started.map(integer);
    if started.is_some() {
        // Ticks count from the start of the machine, so that after the next one they alone tell nothing.
        let before = transaction
            .prepare_cached(
                "SELECT id FROM processes WHERE gpu = ? AND pid = ? AND started = ? AND uid IS ? AND command IS ?",
            )?
            .query_row(
                params![gpu, process.pid, started, process.uid, process.command],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(id) = before {
            return Ok(id);
        }
    }
    transaction
        .prepare_cached(
            "INSERT INTO processes (gpu, pid, started, uid, user, command, project, kinds, stranger, first, last) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)",
        )?
        .execute(params![
            gpu,
            process.pid,
            started,
            process.uid,
            process.user,
            process.command,
            process.project,
            kinds,
            process.stranger,
            integer(at)
        ])?;
    Ok(transaction.last_insert_rowid())
}

fn place(place: Place) -> i64 {
    match place {
        Place::Right => 0,
        Place::Wrong => 1,
    }
}
