use std::{
    fmt::Write as _,
    fs,
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
};

use anyhow::Context as _;
use gpupin_policy::{Bytes, Gpu, Inventory, LockFile, Policy, PolicyError, PolicyFile};

use crate::{
    failure::{Exit, Failure},
    project::{LOCK, POLICY, PYPROJECT},
    terminal::Terminal,
};

/// Write a commented `gpupin.toml` into the working directory
///
/// On a terminal, what no flag says is asked. A `gpupin.lock` in the same directory gives the answers
/// to choose from.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,

    /// Write over a policy that is there
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  gpupin init --name \"RTX 3090\" --min-vram \"20 GiB\" --forbid \"RTX 5060 Ti\"
  gpupin init --min-vram \"40 GiB\" --min-compute-capability 8.0";

/// What goes into the policy.
#[derive(Debug, Clone, Default, clap::Args)]
struct Wanted {
    /// Product name of the GPU, such as "RTX 3090"; `*` and `?` are globs
    #[arg(long)]
    name: Option<String>,

    /// Least VRAM, such as "20 GiB"
    #[arg(long, value_name = "SIZE")]
    min_vram: Option<String>,

    /// Lowest compute capability, such as 8.6
    #[arg(long, value_name = "X.Y")]
    min_compute_capability: Option<String>,

    /// UUID as `nvidia-smi -L` prints it; suits one machine only
    #[arg(long)]
    uuid: Option<String>,

    /// Product name of a GPU that must never be touched
    #[arg(long, value_name = "NAME")]
    forbid: Vec<String>,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    refuse_to_overwrite(args)?;
    let lock = read_lock(terminal);
    let mut wanted = args.wanted.clone();
    if !wanted.says_which() {
        let recorded: Vec<_> = lock.machines().iter().flat_map(Inventory::usable).collect();
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(unclear(&recorded));
        }
        ask(&mut wanted, &recorded, terminal)?;
        if !wanted.says_which() {
            return Err(unclear(&recorded));
        }
    }

    let text = wanted.policy();
    let policy = match Policy::parse(&text, PolicyFile::Gpupin, None) {
        Ok(policy) => policy.expect("a `gpupin.toml` is a policy"),
        Err(PolicyError::Invalid(problems)) => {
            let problems: Vec<_> = problems.iter().map(|it| it.kind.to_string()).collect();
            return Err(Failure::usage(problems.join("\n  ")).hint("nothing was written"));
        }
        Err(error) => return Err(Failure::new(Exit::Failed, error)),
    };
    fs::write(POLICY, text).with_context(|| format!("failed to write `{POLICY}`"))?;
    terminal.status(&format!("wrote `{POLICY}`; `gpupin scan` finds what does not follow it"));
    warn_where_nothing_matches(&policy, &lock, terminal);
    Ok(Exit::Clean)
}

fn refuse_to_overwrite(args: &Args) -> Result<(), Failure> {
    if args.force {
        return Ok(());
    }
    let has_table = fs::read_to_string(PYPROJECT)
        .is_ok_and(|it| matches!(Policy::parse(&it, PolicyFile::Pyproject, None), Ok(Some(_))));
    let there = match () {
        () if Path::new(POLICY).exists() => format!("`{POLICY}` is there already"),
        () if has_table => format!("`{PYPROJECT}` has a policy already, in `[tool.gpupin]`"),
        () => return Ok(()),
    };
    Err(Failure::usage(there).hint("`--force` writes anyway"))
}

/// The recorded machines. They only help to choose, so a broken file is no reason to stop.
fn read_lock(terminal: &mut Terminal) -> LockFile {
    let Ok(text) = fs::read_to_string(LOCK) else { return LockFile::default() };
    LockFile::parse(&text).unwrap_or_else(|error| {
        terminal.warning(&format!("`{LOCK}` cannot be used: {error}"));
        LockFile::default()
    })
}

fn unclear(recorded: &[&Gpu]) -> Failure {
    let failure = Failure::usage("nothing says which GPU the project must run on").hint(
        "say it by what it is: `--name`, `--min-vram`, `--min-compute-capability` or `--uuid`",
    );
    if recorded.is_empty() {
        return failure;
    }
    let names: Vec<_> =
        recorded.iter().map(|it| format!("`--name \"{}\"`", it.short_name())).collect();
    failure.hint(format!("`{LOCK}` records {}", names.join(" and ")))
}

fn ask(wanted: &mut Wanted, recorded: &[&Gpu], terminal: &mut Terminal) -> Result<(), Failure> {
    for (gpu, number) in recorded.iter().zip(1..) {
        let (name, vram, uuid) = (gpu.short_name(), gpu.vram, &gpu.uuid);
        terminal.status(&format!("  {number}. {name}, {vram}, {uuid}"));
    }
    let which = if recorded.is_empty() { "" } else { ", or its number above" };
    // A number means a recorded GPU; anything else is a name.
    let recorded_at = |it: i64| recorded.get(usize::try_from(it).ok()?.checked_sub(1)?);
    let name = |answer: &str| match answer.parse().map(recorded_at) {
        Ok(Some(gpu)) => Ok(gpu.short_name()),
        Ok(None) if !recorded.is_empty() => {
            Err(format!("there is no number {answer}, only 1 to {}", recorded.len()))
        }
        _ => Ok(answer.to_owned()),
    };
    let vram = |answer: &str| match answer.parse::<Bytes>() {
        Ok(_) => Ok(answer.to_owned()),
        Err(error) => Err(error.to_string()),
    };
    // Asks until the answer is one. An empty one, and the end of the input, are none.
    let mut question = |text: &str,
                        understand: &dyn Fn(&str) -> Result<String, String>|
     -> Result<Option<String>, Failure> {
        loop {
            terminal.question(text);
            let mut answer = String::new();
            io::stdin().lock().read_line(&mut answer).context("failed to read the answer")?;
            match answer.trim() {
                "" => return Ok(None),
                answer => match understand(answer) {
                    Ok(understood) => return Ok(Some(understood)),
                    Err(why) => terminal.status(&format!("  {why}")),
                },
            }
        }
    };
    wanted.name = question(&format!("Product name of the GPU{which} (empty: any): "), &name)?;
    wanted.min_vram = question("Least VRAM, such as 20 GiB (empty: any): ", &vram)?;
    let forbidden = "A GPU that must never be touched (empty: no more): ";
    while let Some(answer) = question(forbidden, &name)? {
        wanted.forbid.push(answer);
    }
    Ok(())
}

fn warn_where_nothing_matches(policy: &Policy, lock: &LockFile, terminal: &mut Terminal) {
    let Some(selector) = &policy.gpu else { return };
    for machine in lock.machines() {
        if machine.usable().any(|it| selector.matches(it)) {
            continue;
        }
        let gpus = machine.usable().map(|gpu| {
            let why: Vec<_> = selector.explain(gpu).iter().map(ToString::to_string).collect();
            format!("\n  {}: {}", gpu.short_name(), why.join(", "))
        });
        let gpus: String = gpus.collect();
        terminal.warning(&format!("no GPU of `{}` matches{gpus}", machine.host));
    }
}

impl Wanted {
    fn says_which(&self) -> bool {
        let Self { name, min_vram, min_compute_capability, uuid, forbid: _ } = self;
        [name, min_vram, min_compute_capability, uuid].iter().any(|it| it.is_some())
    }

    /// The text of the file. What is not wanted is there as a comment, to be found when it is.
    fn policy(&self) -> String {
        let mut text = String::from(
            "# Which GPU this project runs on, by what it is and never by its index.\n\n[gpu]\n",
        );
        let mut key = |name: &str, value: Option<&String>, example: &str, comment: &str| {
            let line = match value {
                Some(value) => format!("{name} = {}", quoted(value)),
                None => format!("# {name} = {}", quoted(example)),
            };
            let comment = if comment.is_empty() { String::new() } else { format!("# {comment}") };
            writeln!(text, "{}", format!("{line:<35}{comment}").trim_end())
                .expect("a `String` takes everything");
        };
        let name = "exact, so never a \"… Ti\"; globs: \"RTX 40*\"";
        key("name", self.name.as_ref(), "RTX 3090", name);
        key("min-vram", self.min_vram.as_ref(), "20 GiB", "GiB are 2^30 bytes, GB are 10^9");
        let capability = self.min_compute_capability.as_ref();
        key("min-compute-capability", capability, "8.6", "");
        key(
            "uuid",
            self.uuid.as_ref(),
            "GPU-8932f937",
            "of one machine; a unique beginning will do",
        );

        text.push_str(
            "\n# GPUs this project must never touch, even when the pinned one is busy.\n",
        );
        if self.forbid.is_empty() {
            text.push_str("# [[forbid]]\n# name = \"RTX 5060 Ti\"\n");
        }
        let entries: Vec<_> =
            self.forbid.iter().map(|it| format!("[[forbid]]\nname = {}\n", quoted(it))).collect();
        text.push_str(&entries.join("\n"));
        text.push_str(REST);
        text
    }
}

const REST: &str = r#"
# What every process of the project also gets.
# [env]
# PYTORCH_CUDA_ALLOC_CONF = "max_split_size_mb:1024"

# [lint]
# select = ["default"]             # "default", "strict", codes or names; see `gpupin rules`
# exclude = ["third_party/**"]

# What differs in CI: `gpupin scan --profile ci`.
# [profiles.ci]
# lint.select = ["strict"]
"#;

/// A TOML string. JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use gpupin_policy::{Policy, PolicyFile};

    use super::Wanted;

    /// The comments of a policy turned into the keys they show.
    fn uncommented(text: &str) -> String {
        let is_key = |it: &str| it.starts_with('[') || it.contains(" = ");
        let line = |it: &str| match it.strip_prefix("# ") {
            Some(rest) if is_key(rest) => rest.to_owned(),
            _ => it.to_owned(),
        };
        text.lines().map(|it| line(it) + "\n").collect()
    }

    #[test]
    fn everything_shown_is_valid() {
        // A policy is written for who said at least one thing.
        let wanted = Wanted { min_vram: Some("20 GiB".to_owned()), ..Wanted::default() };
        for text in [wanted.policy(), uncommented(&wanted.policy())] {
            Policy::parse(&text, PolicyFile::Gpupin, None).unwrap();
        }
    }

    #[test]
    fn what_was_asked_for_is_in_the_policy() {
        let wanted = Wanted {
            name: Some("RTX \"3090\"".to_owned()),
            min_vram: Some("20 GiB".to_owned()),
            forbid: vec!["RTX 5060 Ti".to_owned(), "GT 710".to_owned()],
            ..Wanted::default()
        };
        let policy = Policy::parse(&wanted.policy(), PolicyFile::Gpupin, None).unwrap().unwrap();
        let gpu = policy.gpu.unwrap();
        assert_eq!(gpu.name.unwrap().to_string(), "RTX \"3090\"");
        assert_eq!(gpu.min_vram.unwrap().to_string(), "20 GiB");
        assert_eq!(policy.forbid.len(), 2);
    }
}
