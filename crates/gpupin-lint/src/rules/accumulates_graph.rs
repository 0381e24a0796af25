use crate::{
    finding::{Edit, Finding, Safety, Severity},
    needle::Needle,
    project::Project,
    rules::{Check, Rule},
    span::Span,
    unit::{Does, Unit, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP403",
    name: "accumulates-graph",
    severity: Severity::Warning,
    default: false,
    docs: include_str!("accumulates_graph.md"),
    needles: &[Needle::new("backward(")],
    check: Check::Unit(check),
};

fn check(rule: &'static Rule, _: &Project<'_>, id: UnitId, unit: &Unit, found: &mut Vec<Finding>) {
    for event in &unit.events {
        let Does::AccumulateGraph { target, value, place } = &event.does else { continue };
        let message =
            format!("`{target}` keeps the graph of every `{value}`: memory grows each step");
        let help = format!("add `{value}.item()`, or `{value}.detach()` to stay on the GPU");
        let finding = rule.finding(id, event.span, message).with_help(help);
        // A place that maps to no part of the file cannot be edited.
        let stands = unit.source.slice(*place) == value;
        found.push(if stands { fixed(finding, unit, target, place.end) } else { finding });
    }
}

/// Adds what takes the loss out of its graph, behind the name of the loss.
fn fixed(finding: Finding, unit: &Unit, target: &str, at: u32) -> Finding {
    let (call, why) = if is_used_as_tensor(&unit.source.text, target) {
        (".detach()", "gradients no longer flow through the sum")
    } else {
        (".item()", "the value is then a Python number: it has no gradient and no tensor's methods")
    };
    let span = Span { start: at, end: at };
    let edit = Edit { unit: finding.unit, span, replacement: call.to_owned() };
    finding.with_fix(format!("Add `{call}`"), Safety::Unsafe(why.to_owned()), vec![edit])
}

/// Whether the file does with the sum, or the list, what needs tensors: `total.cpu()`, `torch.stack(losses)`, `for it in losses`.
fn is_used_as_tensor(text: &str, target: &str) -> bool {
    let method = text.match_indices(&format!("{target}.")).any(|(at, found)| {
        let name = &text[at + found.len()..];
        !["append(", "extend(", "clear(", "pop("].iter().any(|it| name.starts_with(it))
    });
    let whole = ["stack(", "cat(", "all_reduce(", "reduce(", "gather("];
    method
        || whole.iter().any(|it| text.contains(&format!("{it}{target}")))
        || text.contains(&format!(" in {target}"))
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_message};

    #[test]
    fn the_fix_makes_a_number_of_the_loss() {
        check_fix(
            r#"
for batch in loader:
    loss = model(batch)
    loss.backward()
    running_loss += loss  # keep
    average += loss / len(loader)
    weighted += (out.loss) * 2
    losses.append(loss)
"#,
            r#"
for batch in loader:
    loss = model(batch)
    loss.backward()
    running_loss += loss.item()  # keep
    average += loss.item() / len(loader)
    weighted += (out.loss.item()) * 2
    losses.append(loss.item())
"#,
        );
    }

    #[test]
    fn where_tensors_are_needed_the_loss_stays_one() {
        check_fix(
            r#"
for batch in loader:
    loss.backward()
    total += loss
    losses.append(loss)
    kept.append(loss)
print(total.cpu(), torch.stack(losses), [it.item() for it in kept])
"#,
            r#"
for batch in loader:
    loss.backward()
    total += loss.detach()
    losses.append(loss.detach())
    kept.append(loss.detach())
print(total.cpu(), torch.stack(losses), [it.item() for it in kept])
"#,
        );
    }

    #[test]
    fn sums_and_lists_of_losses_are_reported() {
        check(
            r#"
for batch in loader:
    loss = model(batch)
    loss.backward()
    running_loss += loss  # error: GP403
    average += loss / len(loader)  # error: GP403
    losses.append(loss)  # error: GP403
"#,
        );
    }

    #[test]
    fn numbers_without_a_graph_are_fine() {
        check(
            r#"
for batch in loader:
    loss = model(batch)
    loss.backward()
    total += loss.item()
    total += loss.detach()
    total += float(loss)
    losses.append(loss.item())
    steps += 1
"#,
        );
    }

    #[test]
    fn a_step_that_detaches_what_it_hands_back_keeps_no_graph() {
        check(
            r#"
class Trainer:
    def train(self, batches):
        for batch in batches:
            step_loss = self.step(
                batch,
            )
            self.total += step_loss
            kept_loss = self.keeping_step(batch)
            self.total += kept_loss  # error: GP403

    def step(
        self, batch
    ):
        loss = self.model(batch)
        loss.backward()
        return loss.detach()

    def keeping_step(self, batch):
        loss = self.model(batch)
        loss.backward()
        if self.is_logged:
            return loss.detach()
        return loss
"#,
        );
    }

    #[test]
    fn evaluation_that_lightning_calls_has_no_graph() {
        check(
            r#"
class Model(LightningModule):
    def training_step(self, batch):
        for part in batch:
            self.losses.append(loss)  # error: GP403
        self.manual_backward(loss)
    def validation_step(self, batch):
        for part in batch:
            self.losses.append(loss)
"#,
        );
    }

    #[test]
    fn outside_of_a_loop_nothing_grows() {
        check("loss.backward()\ntotal += loss\n");
    }

    #[test]
    fn what_is_never_differentiated_has_no_graph() {
        check("for batch in loader:\n    total += loss(batch)\n    total += loss\n");
    }

    #[test]
    fn a_sum_that_is_differentiated_keeps_its_graph_on_purpose() {
        check(
            r#"
for task in tasks:
    total_loss = 0
    for batch in task:
        total_loss += loss(batch)
    total_loss.backward()
"#,
        );
    }

    #[test]
    fn the_message_names_both_sides() {
        check_message(
            "for batch in loader:\n    loss.backward()\n    total += loss\n",
            &[
                "`total` keeps the graph of every `loss`: memory grows each step | add `loss.item()`, or `loss.detach()` to stay on the GPU",
            ],
        );
    }
}
