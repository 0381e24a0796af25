use std::fmt::Write as _;

use annotate_snippets::renderer::Style;
use gpupin_device::Kind;
use gpupin_policy::{
    Gpu, GpuUuid, Inventory, Policy,
    visibility::{Certainty, Visibility},
};

use crate::{
    table::table,
    terminal::{BOLD, DIM, WARNING, one_line},
    which::{
        Source, Variable,
        comparison::{Comparison, Outcome},
        process::Running,
    },
};

/// An answer, with what it says itself about.
pub(crate) struct Answer<'a> {
    pub(crate) machine: &'a Inventory,
    pub(crate) source: &'a Source,
    pub(crate) policy: &'a Policy,
    pub(crate) variables: &'a [(Variable, &'static str)],
    pub(crate) running: Option<&'a Running>,
    /// The GPUs on which the driver sees the process, and whether every list could be read.
    pub(crate) seen: Option<&'a (Vec<GpuUuid>, bool)>,
    pub(crate) visibility: &'a Visibility,
    pub(crate) comparison: Option<&'a Comparison>,
    /// All ordinals, so that hidden GPUs are worth a row.
    pub(crate) is_whole: bool,
    pub(crate) colour: bool,
}

/// A row of the table.
type Row = Vec<String>;

impl Answer<'_> {
    pub(crate) fn text(&self) -> String {
        let style = |it| if self.colour { it } else { Style::default() };
        let (bold, dim, warning) = (style(BOLD), style(DIM), style(WARNING));
        let mut text = String::new();
        let mut line = |it: String| writeln!(text, "{it}").expect("a `String` takes everything");
        let host = &self.machine.host;
        line(match self.source {
            Source::Recorded { lock, kind: Kind::Measured } => {
                format!("`{host}` as recorded in `{lock}`; no live machine was asked")
            }
            Source::Recorded { lock, kind } => format!(
                "`{host}` as recorded in `{lock}`; no live machine was asked, and the recorded one is {kind}"
            ),
            Source::Asked { name, kind: Kind::Measured } => format!("`{host}` as {name} tells"),
            Source::Asked { name, kind } => {
                format!("`{host}` as {name} tells; everything here is {kind}")
            }
        });
        if let Some(running) = self.running {
            line(running.describe());
            line(format!(
                "{dim}by the environment it was started with; what it changed since does not show{dim:#}"
            ));
        }
        for (Variable { name, value }, origin) in self.variables {
            line(format!("{name}={} {dim}({origin}){dim:#}", one_line(value)));
        }
        if self.variables.is_empty() {
            line(format!("{dim}no variable that decides is set{dim:#}"));
        }
        line(String::new());

        let has_container = self.visibility.container.is_some();
        let mut rows = self.rows();
        if !has_container {
            for row in &mut rows {
                row.remove(2);
            }
        }
        line(table(&rows, bold).trim_end().to_owned());

        let (certainty, why) = match self.visibility.certainty {
            Certainty::Exact if self.visibility.visible.is_empty() => {
                ("exact", "no GPU is visible, so there is no ordinal")
            }
            Certainty::Exact => ("exact", "every ordinal is one GPU"),
            Certainty::Likely => ("likely", "it rests on what NVIDIA does not document"),
            Certainty::Ambiguous => ("ambiguous", "some ordinal may be one of several GPUs"),
        };
        line(format!("\n{bold}{certainty}{bold:#}: {why}"));
        for (step, number) in self.visibility.steps.iter().zip(1..) {
            let mark = if step.uncertain {
                format!(" {warning}(uncertain){warning:#}")
            } else {
                String::new()
            };
            line(format!("  {number}. {}{mark}", one_line(&step.text)));
        }
        self.seen().into_iter().chain(self.compared()).for_each(line);
        text
    }

    /// Where the driver sees the process that the answer is about.
    fn seen(&self) -> Option<String> {
        let (seen, is_whole) = self.seen?;
        let name = |uuid| self.machine.get(uuid).map(|it| format!("{} ({uuid})", it.short_name()));
        let names: Vec<_> = seen.iter().filter_map(name).collect();
        let gap = if *is_whole { "" } else { "; not every process list could be read" };
        Some(match names.as_slice() {
            [] => format!("\nthe driver sees it on no GPU now{gap}"),
            names => format!("\nthe driver sees it now on {}{gap}", names.join(", ")),
        })
    }

    /// What CUDA says, where it was asked.
    fn compared(&self) -> Vec<String> {
        let Some(comparison) = self.comparison else { return Vec::new() };
        let devices = comparison.devices.iter();
        let devices =
            devices.map(|it| format!("  cuda:{} is {} ({})", it.ordinal, it.name, it.uuid));
        match comparison.outcome {
            Outcome::Unasked => {
                vec![format!("\nnot compared with CUDA: {}", comparison.why.join("; "))]
            }
            Outcome::Differs => {
                let headline = "\nCUDA was asked, and answers otherwise:".to_owned();
                std::iter::once(headline).chain(devices).collect()
            }
            Outcome::Agrees if self.visibility.certainty == Certainty::Ambiguous => {
                let headline = "\nCUDA was asked, and lists them so on this machine:".to_owned();
                std::iter::once(headline).chain(devices).collect()
            }
            Outcome::Agrees => vec!["\nCUDA was asked, and says the same".to_owned()],
        }
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows =
            vec![["CUDA", "NVML", "container", "GPU", "UUID"].map(str::to_owned).to_vec()];
        for it in &self.visibility.visible {
            // An ordinal that may be several GPUs takes a row for each.
            for (index, uuid) in it.candidates.iter().enumerate() {
                let cuda =
                    if index == 0 { format!("cuda:{}", it.ordinal) } else { "  or".to_owned() };
                rows.extend(self.row(cuda, uuid));
            }
        }
        let is_visible =
            |gpu: &Gpu| self.visibility.visible.iter().any(|it| it.candidates.contains(&gpu.uuid));
        if self.is_whole {
            for gpu in self.machine.usable().filter(|it| !is_visible(it)) {
                rows.extend(self.row("hidden".to_owned(), &gpu.uuid));
            }
        }
        rows
    }

    fn row(&self, cuda: String, uuid: &GpuUuid) -> Option<Row> {
        let gpu = self.machine.get(uuid)?;
        let container = self.visibility.container_index(uuid);
        let container = container.map_or_else(|| "-".to_owned(), |it| it.to_string());
        Some(vec![cuda, gpu.index.to_string(), container, self.named(gpu), uuid.to_string()])
    }

    /// A GPU's name, and what the policy has to say about it.
    fn named(&self, gpu: &Gpu) -> String {
        let name = gpu.short_name();
        if self.policy.gpu.as_ref().is_some_and(|it| it.matches(gpu)) {
            return format!("{name} (the policy's)");
        }
        if self.policy.forbid.iter().any(|it| it.matches(gpu)) {
            return format!("{name} (forbidden)");
        }
        name
    }
}
