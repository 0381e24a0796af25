//! Making a mask right where it is set.

use std::collections::BTreeSet;

use gpupin_policy::{PinAs, PinStyle, visibility::Environment};

use super::{
    assign, container,
    pin::{self, PCI_BUS_ID, variables},
    reach, remaining,
    top::top,
};
use crate::{
    finding::{Edit, Finding, Safety},
    meant::Meant,
    program::{
        MASK, ORDER, Program, Write,
        pins::{replaced_by, sure_text},
    },
    project::{Known, Literal, Project},
    source::Language,
    unit::{Does, EventId, Reach, UnitId},
    value::Spanned,
};

/// Offers to set the order in front of an index that has none. Where that index leads to another GPU than the
/// policy's, the mask is corrected too.
pub(crate) fn with_order(
    finding: Finding,
    project: &Project<'_>,
    programs: &[&Program],
    write: Write,
) -> Finding {
    in_style(finding, project, programs, write, ordered)
}

fn ordered(
    finding: Finding,
    project: &Project<'_>,
    programs: &[&Program],
    write: Write,
) -> Finding {
    let mask = mask_of(project, write);
    let right = |mask: String| {
        let environment = Environment::from_pairs([(ORDER, PCI_BUS_ID.to_owned()), (MASK, mask)]);
        judged(project, programs, write, &environment)
    };
    let is_right = mask.map_or_else(|| Err("it is only the default".to_owned()), right);
    let order = assign::beside(project, write, ORDER, PCI_BUS_ID);
    if (is_right.is_err() || order.is_none())
        && let Some(corrected) = corrected(project, programs, write, false)
    {
        return offered(finding, corrected);
    }
    let Some(order) = order else { return finding };
    let why = |_| "where the two orders differ, it changes which GPU the program uses".to_owned();
    let safety = reach::safety(is_right.map_err(why));
    finding.with_fix("Set `CUDA_DEVICE_ORDER` to `PCI_BUS_ID` first", safety, vec![order])
}

/// Offers what makes a mask right in its place. In the style `import` a mask that a program sets for itself gives way to the import
/// instead, unless that is unsafe and the other is not.
fn in_style(
    finding: Finding,
    project: &Project<'_>,
    programs: &[&Program],
    write: Write,
    in_place: fn(Finding, &Project<'_>, &[&Program], Write) -> Finding,
) -> Finding {
    let is_own = |it: &&Program| pin::own_mask(project, it, top(project, it)) == Some(write);
    let imported = (project.policy.lint.style == PinStyle::Import && programs.iter().all(is_own))
        .then(|| pin::cure(finding.clone(), project, programs, &[(write.unit, write.event)]));
    let in_place = in_place(finding, project, programs, write);
    let is_safe = |it: &Finding| it.fix.as_ref().is_some_and(|it| it.safety == Safety::Safe);
    imported.filter(|it| is_safe(it) || it.fix.is_some() && !is_safe(&in_place)).unwrap_or(in_place)
}

/// The mask that a write sets if it shows any GPU.
fn mask_of(project: &Project<'_>, write: Write) -> Option<String> {
    if !assign::is_conditional(project, write) || assign::is_partly_unknown(project, write) {
        return sure_text(project, write);
    }
    let mut shown = project.known(write.unit, project.written(write)?.1);
    shown.retain(|it| !assign::hides_every_gpu(it));
    match shown.pop()? {
        Known { literal: Literal::Str(text), by_default: false, .. } if shown.is_empty() => {
            Some(text)
        }
        _ => None,
    }
}

/// Offers to write the policy's mask where an event sets one that CUDA does not understand, if a program reads that.
pub(crate) fn correct_event(
    finding: Finding,
    project: &Project<'_>,
    (unit, event): (UnitId, EventId),
) -> Finding {
    let reads = |it: &&Program| {
        let mut writes = it.moments.iter().flat_map(|it| it.setting(MASK).writes);
        writes.any(|it| (it.unit, it.event, it.slot) == (unit, event, None))
    };
    let programs: Vec<_> = project.programs.iter().filter(reads).collect();
    if programs.is_empty() {
        return finding;
    }
    correct(finding, project, &programs, Write::of(unit, event))
}

/// Offers to write the policy's mask in the place of one that leads elsewhere.
pub(crate) fn correct(
    finding: Finding,
    project: &Project<'_>,
    programs: &[&Program],
    write: Write,
) -> Finding {
    in_style(finding, project, programs, write, replaced)
}

fn replaced(
    finding: Finding,
    project: &Project<'_>,
    programs: &[&Program],
    write: Write,
) -> Finding {
    let has_order = programs.iter().flat_map(|it| &it.moments).all(|moment| {
        let setting = moment.setting(ORDER);
        !setting.writes.is_empty()
            // Another starter sets none.
            && !setting.inherited
            && setting
                .writes
                .iter()
                .all(|it| sure_text(project, *it).as_deref() == Some(PCI_BUS_ID))
    });
    match corrected(project, programs, write, has_order) {
        Some(corrected) => offered(finding, corrected),
        None => finding,
    }
}

/// What corrects the index beside an order that becomes `PCI_BUS_ID`, if it names another GPU than the policy's then.
pub(crate) fn for_order(project: &Project<'_>, (unit, order): (UnitId, EventId)) -> Vec<Edit> {
    let meant = Meant::of(project, unit);
    // In a container the GPUs are numbered anew.
    let in_container = matches!(
        project.unit(unit).source.language,
        Language::Compose | Language::Kubernetes | Language::Dockerfile
    );
    let uuid = match meant.uuid(project) {
        Ok(uuid) if !in_container => uuid,
        _ => return Vec::new(),
    };
    let place = project.event(unit, order);
    let events = (0..).map(EventId).zip(&project.unit(unit).events);
    let beside = events.filter(|(_, it)| {
        matches!(&it.does, Does::SetVariable(set) if set.name == MASK && set.reach != Reach::ShellOnly)
            && (&it.service, &it.function) == (&place.service, &place.function)
    });
    let elsewhere = |write: &Write| {
        let environment =
            |mask| Environment::from_pairs([(ORDER, PCI_BUS_ID.to_owned()), (MASK, mask)]);
        sure_text(project, *write).is_some_and(|mask| {
            mask.parse::<u32>().is_ok() && !meant.is_hit(project, &environment(mask))
        })
    };
    let writes = beside.map(|it| Write::of(unit, it.0)).filter(elsewhere);
    writes.filter_map(|it| assign::value(project, it, &uuid)).collect()
}

struct Corrected {
    title: String,
    safety: Result<(), String>,
    edits: Vec<Edit>,
}

fn offered(finding: Finding, it: Corrected) -> Finding {
    finding.with_fix(it.title, reach::safety(it.safety), it.edits)
}

/// The policy's mask at the place of a write, with its order where there is none.
fn corrected(
    project: &Project<'_>,
    programs: &[&Program],
    write: Write,
    has_order: bool,
) -> Option<Corrected> {
    let wanted = project.wanted(programs.first()?)?;
    // Programs of several roles share the setting.
    if programs.iter().any(|it| project.wanted(it) != Some(wanted)) {
        return None;
    }
    // An option that is a number takes no UUID.
    let (pin, name, edits) = [project.policy.pin.as_, PinAs::Index].into_iter().find_map(|it| {
        let (pin, name) = variables(project, wanted, it)?;
        let mut edits = written(project, write, &pin, has_order)?;
        // What it replaces would be in conflict with it.
        let replaced = project.programs.iter().flat_map(|it| replaced_by(project, it, write));
        let certain = replaced.filter(|it| sure_text(project, *it).is_some());
        let mask = pin.iter().find(|it| it.0 == MASK).map(|it| &it.1)?;
        for other in certain.collect::<BTreeSet<_>>() {
            edits.push(assign::value(project, other, mask)?);
        }
        edits.sort_by_key(|it| (it.unit, it.span));
        edits.dedup();
        Some((pin, name, edits))
    })?;
    let mut safety = judged(project, programs, write, &Environment::from_pairs(pin.clone()));
    if project.written(write).is_some_and(|it| is_default(project, write, it.1)) {
        safety = Err("it is only the default: somebody may say otherwise".to_owned());
    }
    if assign::is_partly_unknown(project, write) {
        safety = Err("a condition may decide for another mask".to_owned());
    }
    let safety = programs.iter().fold(safety, |safety, program| {
        safety.and_then(|()| remaining::goes_with(project, program, &pin, Some(write)))
    });
    Some(Corrected { title: format!("Name the {name} instead"), safety, edits })
}

/// What writes a mask in the place of another, with its order where there is none.
fn written(
    project: &Project<'_>,
    write: Write,
    pin: &[(&str, String)],
    has_order: bool,
) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    for (variable, text) in pin {
        match *variable {
            MASK => edits.push(assign::value(project, write, text)?),
            ORDER if has_order => {}
            _ => edits.push(assign::beside(project, write, variable, text)?),
        }
    }
    Some(edits)
}

fn is_default(project: &Project<'_>, write: Write, value: &Spanned) -> bool {
    project.known(write.unit, value).iter().any(|it| it.by_default)
}

/// Whether programs that get what a write sets reach exactly the policy's GPU in an environment.
fn judged(
    project: &Project<'_>,
    programs: &[&Program],
    write: Write,
    environment: &Environment,
) -> Result<(), String> {
    for program in programs {
        if container::runs(project, program, Some(write)) {
            return Err("in its container that GPU may not be there".to_owned());
        }
        reach::exactly(project, project.wanted(program), environment)?;
    }
    Ok(())
}
