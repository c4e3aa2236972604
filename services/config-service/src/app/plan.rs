//! Decides what follows from the folder for the agents: which are published, which stay as they were, which go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::agent::FileProblem;
use domain::{AgentName, AgentSpec};
use state::agents::AgentVersion;

use super::folder::{Look, Parsed};
use super::owners::Owners;

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Agents as their files say.
    pub(super) good: BTreeMap<AgentName, (String, AgentSpec)>,
    /// Agents whose file is wrong, and so keep their last good version.
    pub(super) stale: BTreeMap<AgentName, (String, Vec<FileProblem>)>,
    /// Agents whose file is gone.
    pub(super) gone: Vec<AgentName>,
    /// Everything that is wrong.
    pub(super) problems: Vec<FileProblem>,
}

/// Decides. `owners` says which file each known agent came from, `active` what is active of them.
pub(super) fn plan(look: &Look, owners: &Owners, active: &BTreeMap<AgentName, Arc<AgentVersion>>) -> Plan {
    let mut files = Files::sort(look);
    files.refuse_repeated_names();
    // Refusing one file may take away what another one refers to, or end a circle.
    while files.refuse_unknown_agents(owners, active) || files.refuse_circles(owners, active) {}

    let mut plan = Plan::default();
    for (file, parsed) in &files.good {
        plan.good.insert(parsed.spec.name.clone(), ((*file).to_owned(), parsed.spec.clone()));
    }
    for (name, file) in owners.iter() {
        if plan.good.contains_key(name) {
            continue;
        }
        match files.bad.get(file.as_str()) {
            Some(problems) if active.contains_key(name) => {
                plan.stale.insert(name.clone(), (file.clone(), problems.clone()));
            }
            _ => plan.gone.push(name.clone()),
        }
    }
    plan.problems = files.bad.into_values().flatten().collect();
    plan
}

struct Files<'a> {
    good: BTreeMap<&'a str, &'a Parsed>,
    bad: BTreeMap<&'a str, Vec<FileProblem>>,
}

impl<'a> Files<'a> {
    fn sort(look: &'a Look) -> Self {
        let mut files = Self { good: BTreeMap::new(), bad: BTreeMap::new() };
        for (file, seen) in look {
            match &*seen.content {
                Ok(parsed) => drop(files.good.insert(file, parsed)),
                Err(problems) => drop(files.bad.insert(file, problems.clone())),
            }
        }
        files
    }

    fn refuse(&mut self, file: &'a str, problems: Vec<FileProblem>) {
        self.good.remove(file);
        self.bad.entry(file).or_default().extend(problems);
    }

    fn refuse_repeated_names(&mut self) {
        let mut by_name: BTreeMap<&AgentName, Vec<&'a str>> = BTreeMap::new();
        for (file, parsed) in &self.good {
            by_name.entry(&parsed.spec.name).or_default().push(file);
        }
        for (name, files) in by_name {
            if files.len() < 2 {
                continue;
            }
            for file in &files {
                let others: Vec<&str> = files.iter().copied().filter(|other| other != file).collect();
                let mut problem = FileProblem::of_file(*file, format!("{name} is also in {}", others.join(", ")));
                "name".clone_into(&mut problem.path);
                problem.hint = Some("an agent's name is unique: rename one of them".to_owned());
                self.refuse(file, vec![problem]);
            }
        }
    }

    /// The agents that keep their last good version, with what that says.
    fn stale<'b>(
        &'b self,
        owners: &'b Owners,
        active: &'b BTreeMap<AgentName, Arc<AgentVersion>>,
    ) -> impl Iterator<Item = (&'b AgentName, &'b AgentSpec)> {
        let named: BTreeSet<&AgentName> = self.good.values().map(|parsed| &parsed.spec.name).collect();
        owners
            .iter()
            .filter(move |(name, file)| self.bad.contains_key(file.as_str()) && !named.contains(name))
            .filter_map(|(name, _)| Some((name, &active.get(name)?.spec)))
    }

    fn refuse_unknown_agents(&mut self, owners: &Owners, active: &BTreeMap<AgentName, Arc<AgentVersion>>) -> bool {
        let mut known: BTreeSet<&AgentName> = self.good.values().map(|parsed| &parsed.spec.name).collect();
        known.extend(self.stale(owners, active).map(|(name, _)| name));
        let mut refused = Vec::new();
        for (file, parsed) in &self.good {
            let problems: Vec<FileProblem> = parsed
                .references
                .iter()
                .filter(|reference| !known.contains(&reference.agent))
                .map(|reference| FileProblem {
                    file: (*file).to_owned(),
                    line: reference.line,
                    column: reference.column,
                    path: reference.path.clone(),
                    reason: format!("there is no agent {}", reference.agent),
                    hint: Some("add its file, or mend it if it is wrong".to_owned()),
                })
                .collect();
            if !problems.is_empty() {
                refused.push((*file, problems));
            }
        }
        let any = !refused.is_empty();
        for (file, problems) in refused {
            self.refuse(file, problems);
        }
        any
    }

    fn refuse_circles(&mut self, owners: &Owners, active: &BTreeMap<AgentName, Arc<AgentVersion>>) -> bool {
        let mut edges: BTreeMap<&AgentName, BTreeSet<&AgentName>> = BTreeMap::new();
        for parsed in self.good.values() {
            edges.insert(&parsed.spec.name, targets(&parsed.spec));
        }
        edges.extend(self.stale(owners, active).map(|(name, spec)| (name, targets(spec))));
        let circular: BTreeSet<AgentName> = in_circles(&edges).into_iter().cloned().collect();
        let mut refused = Vec::new();
        for (file, parsed) in &self.good {
            let first = parsed.references.iter().find(|reference| circular.contains(&reference.agent));
            if let (true, Some(reference)) = (circular.contains(&parsed.spec.name), first) {
                let problem = FileProblem {
                    file: (*file).to_owned(),
                    line: reference.line,
                    column: reference.column,
                    path: reference.path.clone(),
                    reason: format!("{} leads back to {}", reference.agent, parsed.spec.name),
                    hint: Some("agents must not hand work around in a circle".to_owned()),
                };
                refused.push((*file, problem));
            }
        }
        let any = !refused.is_empty();
        for (file, problem) in refused {
            self.refuse(file, vec![problem]);
        }
        any
    }
}

fn targets(spec: &AgentSpec) -> BTreeSet<&AgentName> {
    spec.delegates.iter().chain(spec.team.iter().flat_map(|team| &team.members)).collect()
}

/// What is left when everything that leads nowhere, and then everything that nothing leads to, is taken away.
fn in_circles<'a>(edges: &BTreeMap<&'a AgentName, BTreeSet<&'a AgentName>>) -> BTreeSet<&'a AgentName> {
    let mut backward: BTreeMap<&AgentName, BTreeSet<&AgentName>> = BTreeMap::new();
    for (from, targets) in edges {
        for to in targets {
            backward.entry(to).or_default().insert(from);
        }
    }
    let names: BTreeSet<&AgentName> = edges.keys().copied().collect();
    let left = without_ends(names, edges, &backward);
    without_ends(left, &backward, edges)
}

/// Takes away, again and again, what has no way on within what is left.
fn without_ends<'a>(
    mut left: BTreeSet<&'a AgentName>,
    forward: &BTreeMap<&'a AgentName, BTreeSet<&'a AgentName>>,
    backward: &BTreeMap<&'a AgentName, BTreeSet<&'a AgentName>>,
) -> BTreeSet<&'a AgentName> {
    let none = BTreeSet::new();
    let mut ways: BTreeMap<&AgentName, usize> = BTreeMap::new();
    for name in &left {
        ways.insert(name, forward.get(name).unwrap_or(&none).intersection(&left).count());
    }
    let mut ends: Vec<&AgentName> = ways.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(end) = ends.pop() {
        left.remove(end);
        for before in backward.get(end).unwrap_or(&none) {
            if let Some(count) = ways.get_mut(before).filter(|count| **count > 0) {
                *count -= 1;
                if *count == 0 {
                    ends.push(before);
                }
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        AgentName::new(text).expect("a name")
    }

    fn circular(edges: &[(&str, &[&str])]) -> Vec<String> {
        let names: BTreeMap<&str, AgentName> = edges.iter().map(|(from, _)| (*from, name(from))).collect();
        let edges = edges.iter().map(|(from, to)| (&names[from], to.iter().map(|to| &names[to]).collect())).collect();
        in_circles(&edges).into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_circles_are_left() {
        assert_eq!(circular(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]), Vec::<String>::new());
        let edges: &[(&str, &[&str])] = &[("a", &["b"]), ("b", &["c"]), ("c", &["b", "d"]), ("d", &[])];
        assert_eq!(circular(edges), ["b", "c"]);
    }

    #[test]
    fn a_long_chain_is_no_circle() {
        let names: Vec<AgentName> = (0..10_000).map(|n| name(&format!("n{n}"))).collect();
        let mut edges: BTreeMap<&AgentName, BTreeSet<&AgentName>> =
            names.windows(2).map(|pair| (&pair[0], BTreeSet::from([&pair[1]]))).collect();
        edges.insert(&names[9_999], BTreeSet::new());
        assert!(in_circles(&edges).is_empty());
        edges.insert(&names[9_999], BTreeSet::from([&names[0]]));
        assert_eq!(in_circles(&edges).len(), 10_000);
    }
}
