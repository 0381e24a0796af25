use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use gpupin_device::{
    Accounted, Answer, Driver, GpuProcess, GpuStatus, Kind, Machine, MachineError, Silence, Usage,
};
use gpupin_policy::{
    Bytes, ComputeCapability, Gpu, GpuUuid, Inventory, Mig, NvmlIndex, PciAddress,
};
use proptest::prelude::*;

use super::{
    Judge, Judgement, LONGEST_GAP, Place, Reason, Setting, Verdict,
    record::{
        AccountingOf, Entry, GpuSample, Kin, List, ListName, Named, Origin, Record, Seen, What,
    },
};

mod faults;

fn gpu(number: u32) -> GpuUuid {
    format!("GPU-{number:08x}-0000-0000-0000-000000000000").parse().unwrap()
}

fn seen(pid: u32, kin: Kin) -> Seen {
    let started = (kin != Kin::Unknown).then_some(1);
    Seen { pid, started, kin, memory: Some(1 << 20), instance: None }
}

fn sample(number: u32, compute: Vec<Seen>) -> GpuSample {
    let none = || List::Is(Vec::new());
    GpuSample { gpu: gpu(number), compute: List::Is(compute), graphics: none(), mps: none() }
}

fn silent<T>(why: &Silence) -> List<T> {
    List::silent(why)
}

/// Pinned to GPU 0 of two.
fn setting(isolated: &[u32]) -> Setting {
    Setting {
        pinned: vec![Place { gpu: gpu(0), instance: None }],
        isolated: isolated.iter().map(|it| Named(gpu(*it))).collect(),
        own_pid_namespace: false,
    }
}

fn inventory(count: u32) -> What {
    What::Inventory((0..count).map(|it| Named(gpu(it))).collect())
}

/// The records of a run on two GPUs in which these were the samples.
fn run(samples: Vec<Vec<GpuSample>>) -> Vec<Record> {
    let whats = [inventory(2)].into_iter().chain(samples.into_iter().map(What::Gpus));
    let whats = whats.chain([inventory(2), What::End(true)]);
    (0..).zip(whats).map(|(at, what)| Record { at: at * 100, what }).collect()
}

fn judge(setting: &Setting, records: &[Record]) -> Judgement {
    let mut judge = Judge::new(setting.clone());
    for record in records {
        judge.add(record);
    }
    judge.finish()
}

#[track_caller]
fn check(setting: &Setting, records: &[Record], verdict: Verdict, reasons: &[Reason]) {
    let judgement = judge(setting, records);
    assert_eq!((judgement.verdict, judgement.reasons.as_slice()), (verdict, reasons));
}

fn ours_on_pin() -> Vec<GpuSample> {
    vec![sample(0, vec![seen(7, Kin::Tree)]), sample(1, vec![])]
}

#[test]
fn on_the_pin_with_the_other_gpu_out_of_reach_is_proved() {
    check(&setting(&[1]), &run(vec![ours_on_pin()]), Verdict::Proved, &[]);
}

#[test]
fn samples_alone_prove_nothing() {
    let reason = Reason::SampledOnly { gpu: Named(gpu(1)) };
    check(&setting(&[]), &run(vec![ours_on_pin()]), Verdict::Unproved, &[reason]);
}

#[test]
fn a_program_that_was_never_seen_proves_nothing() {
    let empty = vec![sample(0, vec![seen(9, Kin::Other)]), sample(1, vec![])];
    check(&setting(&[1]), &run(vec![empty]), Verdict::Unproved, &[Reason::NoGpuUseSeen]);
}

#[test]
fn another_gpu_is_a_violation_even_if_it_was_said_to_be_out_of_reach() {
    let elsewhere = vec![sample(0, vec![]), sample(1, vec![seen(7, Kin::Tree)])];
    let reason = Reason::SeenElsewhere { gpu: Named(gpu(1)), pid: 7 };
    check(&setting(&[1]), &run(vec![elsewhere]), Verdict::Violated, &[reason]);
}

#[test]
fn of_a_gpu_it_was_seen_on_it_is_not_said_that_only_samples_tell() {
    let elsewhere = vec![sample(0, vec![]), sample(1, vec![seen(7, Kin::Tree)])];
    let reason = Reason::SeenElsewhere { gpu: Named(gpu(1)), pid: 7 };
    check(&setting(&[]), &run(vec![elsewhere]), Verdict::Violated, &[reason]);
}

#[test]
fn graphics_count_as_use() {
    let mut elsewhere = ours_on_pin();
    elsewhere[1].graphics = List::Is(vec![seen(7, Kin::Tree)]);
    let reason = Reason::SeenElsewhere { gpu: Named(gpu(1)), pid: 7 };
    check(&setting(&[1]), &run(vec![elsewhere]), Verdict::Violated, &[reason]);
}

/// The records with this accounting of GPU 1 before and after.
fn accounted(before: List<Entry>, after: List<Entry>, samples: Vec<Vec<GpuSample>>) -> Vec<Record> {
    let mut records = run(samples);
    let of = |list| What::Accounting(vec![AccountingOf { gpu: gpu(1), list }]);
    let last = records.len() - 1;
    let at = records[last].at;
    records.insert(last, Record { at, what: of(after) });
    records.insert(1, Record { at: 0, what: of(before) });
    records
}

fn entries(pids: &[u32]) -> List<Entry> {
    List::Is(pids.iter().map(|pid| Entry { pid: *pid, started: Some(5) }).collect())
}

#[test]
fn accounting_covers_a_gpu_if_everybody_on_it_is_known() {
    let quiet = accounted(entries(&[3]), entries(&[3]), vec![ours_on_pin()]);
    check(&setting(&[]), &quiet, Verdict::Proved, &[]);

    let stranger = vec![sample(0, vec![seen(7, Kin::Tree)]), sample(1, vec![seen(8, Kin::Other)])];
    let known = accounted(entries(&[]), entries(&[8]), vec![stranger]);
    check(&setting(&[]), &known, Verdict::Proved, &[]);
}

#[test]
fn accounting_with_gaps_covers_nothing() {
    let off = || silent(&Silence::NotAvailable);
    let incomplete =
        |why: &str| Reason::AccountingIncomplete { gpu: Named(gpu(1)), why: why.to_owned() };
    let many: Vec<u32> = (10..1100).collect();
    for (before, after, reason) in [
        (entries(&[]), entries(&[8]), incomplete("whose process 8 was is not known")),
        (entries(&[3]), entries(&[]), incomplete(CLEARED)),
        (entries(&many), entries(&many), incomplete("its list was full")),
        (entries(&[]), off(), incomplete("not available")),
        (off(), entries(&[]), Reason::SampledOnly { gpu: Named(gpu(1)) }),
    ] {
        let records = accounted(before, after, vec![ours_on_pin()]);
        check(&setting(&[]), &records, Verdict::Unproved, &[reason]);
    }
}

const CLEARED: &str = "it was cleared, switched off, or full";

/// Whether a run is proved in which this was found between two samples, and everything else is as it should be.
#[track_caller]
fn check_between(what: What, verdict: Verdict, reasons: &[Reason]) {
    let samples = vec![ours_on_pin(), ours_on_pin()];
    let mut records = accounted(entries(&[3]), entries(&[3]), samples);
    let at = records[3].at;
    records.insert(4, Record { at, what });
    check(&setting(&[]), &records, verdict, reasons);
}

#[test]
fn accounting_that_was_cleared_or_off_meanwhile_covers_nothing() {
    let accounting = |list| What::Accounting(vec![AccountingOf { gpu: gpu(1), list }]);
    let incomplete =
        |why: &str| Reason::AccountingIncomplete { gpu: Named(gpu(1)), why: why.to_owned() };
    check_between(accounting(entries(&[3])), Verdict::Proved, &[]);
    check_between(What::AccountingSame(true), Verdict::Proved, &[]);
    for (what, why) in [
        (accounting(silent(&Silence::NotAvailable)), "not available"),
        (accounting(entries(&[])), CLEARED),
        // Somebody came, and is forgotten.
        (accounting(entries(&[3, 9])), CLEARED),
        (What::Accounting(vec![]), "the GPU is gone"),
    ] {
        check_between(what, Verdict::Unproved, &[incomplete(why)]);
    }
    // Whoever was on it stays found.
    let reasons = [Reason::SeenElsewhere { gpu: Named(gpu(1)), pid: 7 }];
    check_between(accounting(entries(&[3, 7])), Verdict::Violated, &reasons);
}

#[test]
fn whoever_accounting_lists_without_statistics_may_be_anybody() {
    let untold = |pid| List::Is(vec![Entry { pid, started: None }]);
    let why = |pid| format!("it lists process {pid} and does not say when it came");
    let incomplete = |pid| Reason::AccountingIncomplete { gpu: Named(gpu(1)), why: why(pid) };
    for (before, after) in
        [(entries(&[]), untold(8)), (entries(&[8]), untold(8)), (untold(8), untold(8))]
    {
        let records = accounted(before, after, vec![ours_on_pin()]);
        check(&setting(&[]), &records, Verdict::Unproved, &[incomplete(8)]);
    }
    // It is ours, and nothing tells that another of this number was there before.
    let seen = Reason::SeenElsewhere { gpu: Named(gpu(1)), pid: 7 };
    let records = accounted(
        entries(&[3]),
        List::Is(vec![Entry { pid: 3, started: Some(5) }, Entry { pid: 7, started: None }]),
        vec![ours_on_pin()],
    );
    check(&setting(&[]), &records, Verdict::Violated, &[seen]);
    let records = accounted(entries(&[7]), untold(7), vec![ours_on_pin()]);
    check(&setting(&[]), &records, Verdict::Unproved, &[incomplete(7)]);
}

#[test]
fn accounting_must_be_asked_all_along_and_at_the_end() {
    let incomplete = |why: &str| {
        let why = why.to_owned();
        [Reason::AccountingIncomplete { gpu: Named(gpu(1)), why }]
    };
    let samples = vec![ours_on_pin(); 50];
    let mut records = accounted(entries(&[]), entries(&[]), samples);
    let reasons = incomplete("nobody asked it for 5200 ms");
    check(&setting(&[]), &records, Verdict::Unproved, &reasons);
    records.insert(26, Record { at: records[25].at, what: What::AccountingSame(true) });
    check(&setting(&[]), &records, Verdict::Proved, &[]);
    let last = records.iter().rposition(|it| matches!(it.what, What::Accounting(_))).unwrap();
    records.remove(last);
    let reasons = incomplete("nobody asked it at the end");
    check(&setting(&[]), &records, Verdict::Unproved, &reasons);
}

#[test]
fn gpus_and_instances_that_come_and_go_leave_it_unproved() {
    check_between(inventory(2), Verdict::Proved, &[]);
    check_between(inventory(3), Verdict::Unproved, &[Reason::GpusChanged]);
    let instances =
        |numbers: &[u32]| What::Instances(numbers.iter().map(|it| Named(gpu(*it))).collect());
    let mut records = accounted(entries(&[]), entries(&[]), vec![ours_on_pin()]);
    for (numbers, verdict) in [(&[][..], Verdict::Proved), (&[9], Verdict::Unproved)] {
        records.insert(2, Record { at: 0, what: instances(numbers) });
        records.insert(2, Record { at: 0, what: instances(&[]) });
        assert_eq!(judge(&setting(&[]), &records).verdict, verdict);
    }
}

#[test]
fn accounting_finds_whom_no_sample_showed() {
    let records = accounted(entries(&[]), entries(&[7]), vec![ours_on_pin()]);
    let reason = Reason::SeenElsewhere { gpu: Named(gpu(1)), pid: 7 };
    check(&setting(&[]), &records, Verdict::Violated, &[reason]);
}

#[test]
fn an_instance_is_not_the_whole_gpu() {
    let pinned = Place { gpu: gpu(0), instance: Some((1, 0)) };
    let setting = Setting { pinned: vec![pinned], ..setting(&[1]) };
    let at = |instance| {
        let seen = Seen { instance, ..seen(7, Kin::Tree) };
        run(vec![vec![sample(0, vec![seen]), sample(1, vec![])]])
    };
    let sampled = Reason::OtherInstances { gpu: Named(gpu(0)) };
    check(&setting, &at(Some((1, 0))), Verdict::Unproved, std::slice::from_ref(&sampled));
    let elsewhere = Reason::SeenElsewhere { gpu: Named(gpu(0)), pid: 7 };
    check(&setting, &at(Some((2, 0))), Verdict::Violated, &[elsewhere]);
    let unknown = Reason::MigInstanceUnknown { gpu: Named(gpu(0)) };
    let reasons = [Reason::NoGpuUseSeen, unknown, sampled];
    check(&setting, &at(None), Verdict::Unproved, &reasons);
}

#[test]
fn numbers_of_another_namespace_are_no_hits() {
    let setting = Setting { own_pid_namespace: true, ..setting(&[1]) };
    let samples =
        vec![sample(0, vec![seen(99, Kin::Unknown)]), sample(1, vec![seen(7, Kin::Tree)])];
    let judgement = judge(&setting, &run(vec![samples]));
    assert_eq!(judgement.verdict, Verdict::Unproved);
    assert!(judgement.reasons.contains(&Reason::PidNamespace), "{judgement:?}");
    // All numbers are known here, so that the driver translates them.
    let samples = vec![sample(0, vec![]), sample(1, vec![seen(7, Kin::Tree)])];
    assert_eq!(judge(&setting, &run(vec![samples])).verdict, Verdict::Violated);
}

#[test]
fn missing_lists_that_cannot_exist_are_no_fault_where_nothing_is_to_be_seen() {
    let mut samples = ours_on_pin();
    for it in &mut samples {
        it.mps = silent(&Silence::TooOld);
        it.graphics = silent(&Silence::Unsupported);
    }
    check(&setting(&[1]), &run(vec![samples.clone()]), Verdict::Proved, &[]);
    let records = accounted(entries(&[]), entries(&[]), vec![samples]);
    let (gpu, why) = (Named(gpu(1)), "not supported".to_owned());
    let reason = Reason::ListSilent { gpu, list: ListName::Graphics, why };
    check(&setting(&[]), &records, Verdict::Unproved, &[reason]);
}

/// What may go wrong in an otherwise perfect run.
#[derive(Clone, Debug)]
enum Fault {
    Silent(u32, ListName, Silence),
    Lost(u32),
    Unknown,
    MpsServer(u32),
    MpsClient(u32),
    Gap(u64),
    NoEnd,
    OwnNamespace,
    OtherInventory(u32),
    MachineSilent,
    NoInventory,
    AccountingLost,
    AccountedStranger,
}

fn silences() -> impl Strategy<Value = Silence> {
    prop_oneof![
        Just(Silence::NoPermission),
        Just(Silence::Lost),
        Just(Silence::NotAvailable),
        Just(Silence::failed("999")),
    ]
}

fn faults() -> impl Strategy<Value = Fault> {
    let lists = prop_oneof![Just(ListName::Compute), Just(ListName::Graphics), Just(ListName::Mps)];
    prop_oneof![
        (0..2_u32, lists, silences()).prop_map(|(gpu, list, why)| Fault::Silent(gpu, list, why)),
        (0..2_u32).prop_map(Fault::Lost),
        Just(Fault::Unknown),
        (0..2_u32).prop_map(Fault::MpsServer),
        (0..2_u32).prop_map(Fault::MpsClient),
        (LONGEST_GAP + 1..1_000_000).prop_map(Fault::Gap),
        Just(Fault::NoEnd),
        Just(Fault::OwnNamespace),
        prop_oneof![Just(1_u32), Just(3)].prop_map(Fault::OtherInventory),
        Just(Fault::MachineSilent),
        Just(Fault::NoInventory),
        Just(Fault::AccountingLost),
        Just(Fault::AccountedStranger),
    ]
}

/// A run of several samples, with one fault in one of them. Accounting covers GPU 1.
fn faulty(fault: &Fault, count: usize, place: usize) -> (Setting, Vec<Record>) {
    let mut setting = setting(&[]);
    let mut samples = vec![ours_on_pin(); count];
    let place = place % count;
    let (mut after, list_gpu) = (entries(&[]), |samples: &mut Vec<Vec<GpuSample>>, gpu: u32| {
        samples[place].iter().position(|it| it.gpu == self::gpu(gpu)).unwrap()
    });
    match fault {
        Fault::Silent(gpu, list, why) => {
            let index = list_gpu(&mut samples, *gpu);
            let sample = &mut samples[place][index];
            match list {
                ListName::Compute => sample.compute = silent(why),
                ListName::Graphics => sample.graphics = silent(why),
                ListName::Mps => sample.mps = silent(why),
            }
        }
        Fault::Lost(gpu) => samples[place].retain(|it| it.gpu != self::gpu(*gpu)),
        Fault::Unknown => samples[place][1].compute = List::Is(vec![seen(9, Kin::Unknown)]),
        Fault::MpsServer(gpu) => {
            let index = list_gpu(&mut samples, *gpu);
            samples[place][index].compute = List::Is(vec![seen(9, Kin::MpsServer)]);
        }
        Fault::MpsClient(gpu) => {
            let index = list_gpu(&mut samples, *gpu);
            samples[place][index].mps = List::Is(vec![seen(9, Kin::Other)]);
        }
        Fault::OwnNamespace => setting.own_pid_namespace = true,
        Fault::AccountingLost => after = silent(&Silence::Lost),
        Fault::AccountedStranger => after = entries(&[12]),
        _ => {}
    }
    let mut records = accounted(entries(&[]), after, samples);
    match fault {
        Fault::Gap(gap) => records.iter_mut().skip(2 + place).for_each(|it| it.at += gap),
        Fault::NoEnd => drop(records.pop()),
        Fault::OtherInventory(count) => {
            let at = records[2 + place].at;
            records.insert(2 + place, Record { at, what: inventory(*count) });
        }
        Fault::MachineSilent => {
            let at = records[2 + place].at;
            records.insert(2 + place, Record { at, what: What::Silent("gone".to_owned()) });
        }
        Fault::NoInventory => records.retain(|it| !matches!(it.what, What::Inventory(_))),
        _ => {}
    }
    (setting, records)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_fault_or_gap_ever_gives_proved(
        fault in faults(), count in 1..6_usize, place in 0..6_usize, isolate: bool,
    ) {
        let (mut setting, mut records) = faulty(&fault, count, place);
        // Out of reach, it does not matter whom the driver did not keep account of, and whoever was there was none of ours.
        let harmless = matches!(
            fault, Fault::AccountingLost | Fault::AccountedStranger | Fault::Unknown
        );
        if isolate && !harmless {
            setting.isolated = vec![Named(gpu(1))];
            records.retain(|it| !matches!(it.what, What::Accounting(_)));
        }
        let judgement = judge(&setting, &records);
        prop_assert_ne!(judgement.verdict, Verdict::Proved, "{:?}", judgement);
        prop_assert!(!judgement.reasons.is_empty());
        prop_assert_eq!(judge(&setting, &again(&records)), judgement);
    }

    #[test]
    fn a_trespass_is_a_violation_whatever_else_happens(
        fault in faults(), count in 1..6_usize, place in 0..6_usize, at in 0..6_usize,
    ) {
        prop_assume!(!matches!(fault, Fault::OwnNamespace));
        let (setting, mut records) = faulty(&fault, count, place);
        let trespass = vec![sample(0, vec![]), sample(1, vec![seen(7, Kin::Tree)])];
        let index = 2 + at.min(count);
        let time = records[index - 1].at;
        records.insert(index, Record { at: time, what: What::Gpus(trespass) });
        prop_assert_eq!(judge(&setting, &records).verdict, Verdict::Violated);
    }
}

/// As they are read again.
fn again(records: &[Record]) -> Vec<Record> {
    let line = |it: &Record| serde_json::to_string(it).unwrap();
    records.iter().map(|it| serde_json::from_str(&line(it)).unwrap()).collect()
}

/// A machine with one process on every GPU.
#[derive(Debug)]
struct Stub {
    pid: u32,
}

impl Machine for Stub {
    fn kind(&self) -> Kind {
        Kind::Simulated
    }

    fn source(&self) -> String {
        "a test".to_owned()
    }

    fn driver(&self) -> Result<Driver, MachineError> {
        Err(MachineError::NotLoaded)
    }

    fn inventory(&self) -> Result<Inventory, MachineError> {
        let gpus = [0, 1].map(|number| Gpu {
            uuid: gpu(number),
            name: "GPU".to_owned(),
            vram: Bytes::new(1 << 30),
            compute_capability: ComputeCapability { major: 8, minor: 6 },
            pci: PciAddress { domain: 0, bus: 1, device: 0, function: 0 },
            index: NvmlIndex(number),
            mig: Mig::Disabled,
        });
        Ok(Inventory { host: "test".to_owned(), driver: None, gpus: gpus.to_vec() })
    }

    fn status(&self, _: &GpuUuid) -> Result<GpuStatus, Silence> {
        Err(Silence::Unsupported)
    }

    fn usage(&self, asked: &GpuUuid) -> Usage {
        let process = GpuProcess { pid: self.pid, memory: Ok(Bytes::new(1 << 20)), instance: None };
        let compute = if *asked == gpu(0) { vec![process] } else { Vec::new() };
        Usage { compute: Ok(compute), graphics: Ok(Vec::new()), mps: Err(Silence::TooOld) }
    }

    fn accounting(&self, _: &GpuUuid) -> Answer<Vec<Accounted>> {
        Err(Silence::NotAvailable)
    }
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_child_is_seen_with_its_children_and_what_was_written_judges_the_same() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let samples = Shared::default();
    let machine = Arc::new(Stub { pid: child.id() });
    let origin = Origin { kind: Kind::Simulated, source: "test".into(), command: vec![] };
    let prepared = super::prepare(machine, origin, setting(&[1]), Box::new(samples.clone()));
    let observer = prepared.start(std::process::id(), Vec::new()).unwrap();
    let news = observer.news.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(&news, super::News::OnPin { process, .. } if process.pid == child.id()));
    let observed = observer.finish(Duration::from_secs(20)).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(observed.judgement, Judgement { verdict: Verdict::Proved, reasons: vec![] });
    assert_eq!(observed.uses.len(), 1);
    assert!(observed.uses[0].is_tree && observed.uses[0].command == "sleep 60", "{observed:?}");
    let bytes = samples.0.lock().unwrap().clone();
    let records: Vec<Record> = bytes
        .split(|it| *it == b'\n')
        .filter(|it| !it.is_empty())
        .map(|it| serde_json::from_slice(it).unwrap())
        .collect();
    assert_eq!(u64::try_from(records.len()).unwrap(), observed.records);
    assert_eq!(judge(&setting(&[1]), &records), observed.judgement);
}

/// A disk that is full.
#[derive(Debug)]
struct Full;

impl io::Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn samples_that_cannot_be_written_are_told_once_and_it_goes_on_looking() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let machine = Arc::new(Stub { pid: child.id() });
    let origin = Origin { kind: Kind::Simulated, source: "test".into(), command: vec![] };
    let setting = Setting { pinned: vec![Place { gpu: gpu(1), instance: None }], ..setting(&[]) };
    let mut prepared = super::prepare(machine, origin, setting, Box::new(Full));
    assert!(prepared.lost().is_some());
    let observer = prepared.start(std::process::id(), Vec::new()).unwrap();
    let mut news = Vec::new();
    while news.len() < 2 {
        news.push(observer.news.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    let observed = observer.finish(Duration::from_secs(20)).unwrap();
    news.extend(observer.news());
    child.kill().unwrap();
    child.wait().unwrap();

    let is_lost = |it: &&super::News| matches!(it, super::News::SamplesLost { .. });
    assert_eq!(news.iter().filter(is_lost).count(), 1, "{news:?}");
    assert!(news.iter().any(|it| matches!(it, super::News::Trespass { .. })), "{news:?}");
    assert_eq!(observed.judgement.verdict, Verdict::Violated);
    let is_lost = |it: &&Reason| matches!(it, Reason::SamplesLost { .. });
    assert_eq!(observed.judgement.reasons.iter().filter(is_lost).count(), 1);
}
