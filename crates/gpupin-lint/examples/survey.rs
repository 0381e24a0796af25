use gpupin_lint::{language::language, source::Language, survey::*};
fn walk(d: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
    for e in std::fs::read_dir(d).unwrap().flatten() {
        let p = e.path();
        if p.is_dir() { walk(&p, out) } else { out.push(p) }
    }
}
fn main() {
    let root = std::env::args().nth(1).unwrap();
    let mut files = vec![];
    walk(root.as_ref(), &mut files);
    let policy = gpupin_policy::Policy::default();
    let selection = gpupin_lint::selection::Selection::default();
    let surveyor = Surveyor::new(selection.rules(), &policy);
    let mut n = 0;
    let mut bytes_hit = 0;
    let mut all = 0;
    let mut by: std::collections::BTreeMap<String, (usize, usize)> = Default::default();
    let mut t_survey = std::time::Duration::ZERO;
    let mut t_read = std::time::Duration::ZERO;
    let mut surveys = vec![];
    let mut units = vec![];
    let mut texts = vec![];
    for f in &files {
        let b = std::fs::read(f).unwrap();
        let p = f.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let Some(l) = language(&p, &b) else { continue };
        all += b.len();
        let t = std::time::Instant::now();
        let s = surveyor.survey(&p, l, &b);
        t_survey += t.elapsed();
        if s.interesting {
            n += 1;
            bytes_hit += b.len();
            if l == Language::Python {
                for r in gpupin_lint::RULES.iter().filter(|r| r.default) {
                    for nd in r.needles {
                        if nd.is_in(std::str::from_utf8(&b).unwrap_or("")) {
                            let e = by.entry(format!("{} {:?}", nd.text, nd.follow)).or_default();
                            e.0 += 1;
                            e.1 += b.len();
                        }
                    }
                }
            }
            let t = std::time::Instant::now();
            units.extend(gpupin_lint::read(&p, &b));
            t_read += t.elapsed();
        }
        surveys.push((p, s));
        texts.push(b);
    }
    println!("interesting {n} bytes {bytes_hit} of {all}; survey {t_survey:?} read {t_read:?}");
    let mut v: Vec<_> = by.into_iter().collect();
    v.sort_by_key(|x| std::cmp::Reverse(x.1.0));
    for (k, c) in v.iter().take(40) {
        println!("{:5} {:10} {k}", c.0, c.1);
    }
    let mut reading = Reading::new(surveys.clone(), &policy);
    let mut round = 0;
    loop {
        let t = std::time::Instant::now();
        let w = reading.next(&units);
        println!("round {round}: {} files, planned in {:?}", w.len(), t.elapsed());
        round += 1;
        if w.is_empty() {
            break;
        }
        let t = std::time::Instant::now();
        let mut by = 0;
        if round == 1 {
            let mut c: std::collections::BTreeMap<String, usize> = Default::default();
            for i in &w {
                *c.entry(surveys[*i].0.split('/').next().unwrap().to_owned()).or_default() += 1;
            }
            println!("{c:?}");
            for i in w.iter().step_by(40) {
                println!("    {}", surveys[*i].0)
            }
        }
        for i in w {
            by += texts[i].len();
            units.extend(gpupin_lint::read(&surveys[i].0, &texts[i]));
        }
        println!("  read {by} bytes in {:?}", t.elapsed());
    }
}
