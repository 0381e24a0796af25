//! What of a program would not go with a pin to the policy's GPUs.

use super::launch;
use crate::{
    program::{MASK, Program, Write, pins::sure_text},
    project::Project,
};

mod choices;
mod counts;
mod readers;

/// Whether a program goes with variables that pin it, set where a write is or at its top. If not, why.
pub(super) fn goes_with<N: AsRef<str>>(
    project: &Project<'_>,
    program: &Program,
    pin: &[(N, String)],
    write: Option<Write>,
) -> Result<(), String> {
    let gpus = project.wanted(program).map_or(1, |it| it.count);
    let starts = launch::under(project, program, write);
    launch::need_no_more(starts.iter().copied(), gpus)?;
    counts::goes_with(project, program, i64::from(gpus))?;
    let is_outside = write.is_some_and(|it| !program.runs(it.unit));
    // A mask of one GPU left nothing to others before.
    let was_one = write.and_then(|it| sure_text(project, it)).is_some_and(|it| !it.contains(','));
    if !is_outside && !was_one && gpus == 1 {
        launch::start_one_each(&starts)?;
        counts::has_one_process(project, program)?;
    }
    choices::goes_with(project, program)?;
    let is_uuid = pin.iter().any(|it| it.0.as_ref() == MASK && it.1.starts_with("GPU-"));
    if !is_uuid {
        return Ok(());
    }
    let reader = launch::takes_numbers(&starts).map(str::to_owned);
    match reader.or_else(|| readers::of_mask(project, program, write)) {
        None => Ok(()),
        Some(reader) => Err(format!(
            "`{reader}` reads the mask, which is a UUID then; `[pin] as = \"index\"` keeps it a number"
        )),
    }
}
