//! The results: medians over the rounds, as a table of at most 80 columns or as JSON.

use serde::Serialize;

use super::bound::bound;
use super::workloads::Workload;
use crate::bench::figures::Told;
use crate::bench::run::rounded;
use crate::words::grouped;

/// A workload's result.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) workload: &'static str,
    mode: &'static str,
    partitions: usize,
    keys: u64,
    concurrency: usize,
    records: u64,
    rate: Option<f64>,
    /// What no engine can pass, where handlers wait, at the wait that they really had.
    bound: Option<f64>,
    of_bound_pct: Option<f64>,
    wait_us: Option<f64>,
    cpu_s_per_million: Option<f64>,
    /// CPU a record, with the first of its series, the smallest, as 1.
    cost: Option<f64>,
    rss_mib: Option<f64>,
    join_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip)]
    series: Option<&'static str>,
}

impl Row {
    /// The medians of a workload's rounds; with `error`, why there are no more of them.
    pub(super) fn new(workload: &Workload, rounds: &[Told], error: Option<String>) -> Self {
        let records = workload.data.records;
        let bounds: Vec<f64> = rounds.iter().filter_map(|told| bound(workload, told.wait_us?)).collect();
        let of_bound = rounds.iter().zip(&bounds).map(|(told, bound)| 100.0 * told.rate / bound);
        Self {
            workload: workload.name,
            mode: workload.mode.name(),
            partitions: workload.data.partitions,
            keys: workload.data.keys,
            concurrency: workload.concurrency,
            records,
            rate: median(rounds.iter().map(|told| told.rate)),
            of_bound_pct: median(of_bound),
            bound: median(bounds),
            wait_us: median(rounds.iter().filter_map(|told| told.wait_us)),
            cpu_s_per_million: median(rounds.iter().map(|told| told.cpu_s * 1e6 / records.max(1) as f64)),
            cost: None,
            rss_mib: median(rounds.iter().map(|told| told.rss_mib)),
            join_s: median(rounds.iter().map(|told| told.join_s)),
            error,
            series: workload.series,
        }
    }
}

/// Tells each row's cost against that of the first of its series.
pub(super) fn compare(rows: &mut [Row]) {
    for at in 0..rows.len() {
        let (row, series) = (&rows[at], rows[at].series);
        let first = rows.iter().find(|first| first.series == series).and_then(|first| first.cpu_s_per_million);
        let cost = match (series, row.cpu_s_per_million, first) {
            (Some(_), Some(cpu), Some(first)) if first > 0.0 => Some(rounded(cpu / first)),
            _ => None,
        };
        rows[at].cost = cost;
    }
}

fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let (upper, lower) = (numbers.get(numbers.len() / 2)?, numbers.get(numbers.len().checked_sub(1)? / 2)?);
    Some(rounded((upper + lower) / 2.0))
}

/// The table; the column of costs is there where one is known.
pub(super) fn table(rows: &[Row]) -> String {
    let costs = rows.iter().any(|row| row.cost.is_some());
    let mut lines = vec![line(costs, ["workload", "records", "a second", "bound", "CPU-s/M", "cost", "MiB", "join s"])];
    lines.extend(rows.iter().map(|row| {
        let number = |number: Option<f64>, decimals| number.map_or("–".to_owned(), |n| format!("{n:.decimals$}"));
        let (records, rate) =
            (grouped(row.records), row.rate.map_or("–".to_owned(), |rate| grouped(rate.round() as u64)));
        let of_bound = row.of_bound_pct.map_or("–".to_owned(), |share| format!("{share:.1} %"));
        let (cpu, cost) = (number(row.cpu_s_per_million, 2), number(row.cost, 2));
        let (rss, join) = (number(row.rss_mib, 0), number(row.join_s, 2));
        line(costs, [row.workload, &records, &rate, &of_bound, &cpu, &cost, &rss, &join])
    }));
    let columns = lines[0].len();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for cells in lines {
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            let cell = if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            text.push_str(&cell);
        }
        text.push('\n');
    }
    for row in rows {
        if let Some(error) = &row.error {
            text.push_str(&format!("\n{}: {error}", row.workload));
        }
    }
    if rows.iter().any(|row| row.error.is_some()) {
        text.push('\n');
    }
    text
}

fn line(costs: bool, cells: [&str; 8]) -> Vec<String> {
    cells.iter().enumerate().filter(|(column, _)| costs || *column != 5).map(|(_, cell)| (*cell).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::workloads::chosen;
    use super::*;

    fn told(rate: f64, cpu_s: f64, wait_us: Option<f64>) -> Told {
        Told { rate, cpu_s, rss_mib: 31.25, join_s: 3.215, wait_us, ..Told::default() }
    }

    fn rows() -> Vec<Row> {
        let workloads = chosen("key0,key10ms,zipf10ms-fail1,partitions-1,partitions-1000").unwrap();
        let measured = [
            vec![told(2_600_000.0, 2.0, None), told(2_700_000.0, 1.8, None), told(1.0, 9.0, None)],
            vec![told(80_000.0, 0.25, Some(11_000.0))],
            vec![],
            vec![told(2_600_000.0, 1.3, None)],
            vec![told(2_000_000.0, 1.69, None)],
        ];
        let row = |(workload, rounds): (&Workload, Vec<Told>)| {
            let error = rounds.is_empty().then(|| "the consumer ended with exit status: 1".to_owned());
            Row::new(workload, &rounds, error)
        };
        let mut rows: Vec<Row> = workloads.iter().zip(measured).map(row).collect();
        compare(&mut rows);
        rows
    }

    #[test]
    fn the_table_is_aligned_and_fits_80_columns() {
        let text = table(&rows());
        assert_eq!(
            text,
            "workload           records   a second   bound  CPU-s/M  cost  MiB  join s\n\
             key0             3,000,000  2,600,000       –     0.67     –   31    3.21\n\
             key10ms             25,000     80,000  88.0 %    10.00     –   31    3.21\n\
             zipf10ms-fail1       4,000          –       –        –     –    –       –\n\
             partitions-1     6,000,000  2,600,000       –     0.22  1.00   31    3.21\n\
             partitions-1000  6,000,000  2,000,000       –     0.28  1.30   31    3.21\n\
             \nzipf10ms-fail1: the consumer ended with exit status: 1\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        let plain = table(&rows()[..2]);
        assert!(!plain.contains("cost") && plain.ends_with("3.21\n"), "{plain}");
    }

    #[test]
    fn json_has_what_the_table_has_and_more() {
        let json = serde_json::to_value(&rows()[1]).unwrap();
        assert_eq!(json["of_bound_pct"], 88.0);
        assert_eq!((&json["bound"], &json["wait_us"]), (&90_909.091.into(), &11_000.0.into()));
        assert_eq!((&json["cost"], json.get("error")), (&serde_json::Value::Null, None));
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
    }
}
