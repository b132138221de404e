//! `group describe`.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};
use waterwheel::admin::GroupMember;

use super::{Place, Standing, protocol, standings};
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure};
use crate::global::{Global, Output};

/// Show the members of groups, and where each partition stands
#[derive(clap::Args)]
pub(crate) struct Describe {
    /// Groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,

    #[command(flatten)]
    asking: Asking,
}

impl Describe {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let admin = self.asking.admin(global)?;
        let found = standings(&admin, self.groups).await?;
        let known = || found.iter().filter_map(|(_, standing)| standing.as_ref().ok());
        let mut out = std::io::stdout().lock();
        if global.output() == Output::Table {
            for (n, standing) in known().enumerate() {
                if n > 0 {
                    writeln!(out)?;
                }
                print(&mut out, standing)?;
            }
        } else {
            print_json(&mut out, global.output(), known().map(as_json).collect())?;
        }
        out.flush()?;
        let mut exit = Exit::Done;
        for (name, standing) in &found {
            if let Err(error) = standing {
                exit = Failure::of_group(name, error).report();
            }
        }
        Ok(exit)
    }
}

fn print(out: &mut impl Write, standing: &Standing) -> std::io::Result<()> {
    let group = &standing.group;
    let details = [
        protocol(group.protocol).map(str::to_owned),
        group.assignor.clone(),
        group.coordinator.map(|broker| format!("coordinator {broker}")),
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    writeln!(out, "{}  {}  ({})", group.name, group.state, details.join(", "))?;
    if !group.members.is_empty() {
        let mut rows = table(&["MEMBER", "HOST", "ID", "PARTITIONS"]);
        for member in &group.members {
            let id = member.instance_id.as_ref().unwrap_or(&member.id);
            rows.add_row(vec![member.client_id.clone(), member.host.clone(), id.clone(), partitions(member)]);
        }
        writeln!(out)?;
        print_table(out, &rows)?;
    }
    if !standing.places.is_empty() {
        let [partition, rest @ ..] = Place::HEADINGS;
        let mut rows = table(&[&[partition, "MEMBER"][..], &rest].concat());
        for place in &standing.places {
            let mut cells = place.cells();
            cells.insert(1, or_dash(place.owner.map(|at| &group.members[at].client_id)));
            rows.add_row(cells);
        }
        writeln!(out)?;
        print_table(out, &rows)?;
    }
    Ok(())
}

/// As `orders:0-3,7 payments:1`.
fn partitions(member: &GroupMember) -> String {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in &member.partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topics: Vec<String> = topics.iter().map(|(topic, numbers)| format!("{topic}:{}", ranges(numbers))).collect();
    if topics.is_empty() { "-".to_owned() } else { topics.join(" ") }
}

/// Ascending numbers as `0-3,7`.
fn ranges(numbers: &[i32]) -> String {
    numbers
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            run => run.iter().map(i32::to_string).collect(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn as_json(standing: &Standing) -> Value {
    let group = &standing.group;
    let member = |member: &GroupMember| {
        let partitions = member.partitions.iter();
        json!({
            "id": member.id,
            "client_id": member.client_id,
            "host": member.host,
            "instance_id": member.instance_id,
            "partitions": partitions.map(|p| json!({"topic": &*p.topic, "partition": p.partition})).collect::<Vec<_>>(),
        })
    };
    json!({
        "group": group.name,
        "state": group.state.as_str(),
        "protocol": protocol(group.protocol),
        "assignor": group.assignor,
        "coordinator": group.coordinator,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "lag": standing.lag(),
        "unfinished": standing.unfinished(),
        "time_lag_s": standing.time_lag().map(|lag| lag.as_secs_f64()),
        "partitions": standing.partitions_as_json(),
    })
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn numbers_that_follow_each_other_are_a_range() {
        let table: [(&[i32], &str); 5] =
            [(&[], ""), (&[3], "3"), (&[0, 1], "0-1"), (&[0, 1, 2, 7], "0-2,7"), (&[1, 3, 4], "1,3-4")];
        for (numbers, text) in table {
            assert_eq!(ranges(numbers), text);
        }
    }
}
