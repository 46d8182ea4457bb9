//! A report in words.

use webhooks_local::table::lay_out;

use crate::faults::Fault;
use crate::pool::Ended;
use crate::verdict::Report;

/// How many entries of a long list are shown.
const SAMPLE: usize = 10;

impl Report {
    /// Everything, as tables.
    pub fn shown(&self) -> String {
        let (with_faults, all) = self.times;
        let mut text = format!(
            "{} events; {:.0} s with faults, {:.0} s until nothing was left\n\n",
            self.events,
            with_faults.as_secs_f64(),
            all.as_secs_f64()
        );
        let mut section = |title: &str, rows: Vec<(String, usize)>| {
            let rows: Vec<_> =
                rows.into_iter().map(|(what, n)| vec![what, n.to_string()]).collect();
            text.push_str(&lay_out(&[title, ""], &rows, &[1]));
            text.push('\n');
        };
        section("what went wrong", self.wrongs());
        section("what became of it", self.ends());
        section(
            "POSTs",
            vec![
                ("that came in".to_owned(), self.posts),
                ("that repeat an id and attempt".to_owned(), self.repeated),
            ],
        );
        for (what, list) in [("lost", &self.lost), ("wrong", &self.wrong)] {
            for one in list.iter().take(SAMPLE) {
                text.push_str(what);
                text.push_str(": ");
                text.push_str(one);
                text.push('\n');
            }
        }
        text
    }

    fn wrongs(&self) -> Vec<(String, usize)> {
        let mut rows = vec![("calls of the tables and queues".to_owned(), self.calls)];
        let happened = |fault: Fault| (fault.describe().to_owned(), self.faults.get(&fault));
        let faults = Fault::ALL.into_iter().map(happened);
        rows.extend(faults.filter_map(|(what, times)| Some((format!("  {what}"), *times?))));
        if self.system_kills > 0 {
            rows.push(("kills of the whole system".to_owned(), self.system_kills));
            return rows;
        }
        let invocations = self.invocations.values().sum();
        rows.push(("invocations of functions".to_owned(), invocations));
        let unhappy = self.invocations.iter().filter(|((_, how), _)| *how != Ended::Succeeded);
        rows.extend(
            unhappy.map(|((function, how), times)| {
                (format!("  {function}: {}", how.describe()), *times)
            }),
        );
        rows.push(("processes that were started".to_owned(), self.processes));
        rows
    }

    fn ends(&self) -> Vec<(String, usize)> {
        let mut rows = vec![
            ("deliveries whose end was known beforehand".to_owned(), self.expected),
            ("  delivered, with the right number of attempts".to_owned(), self.delivered),
            ("  failed, with the right number of attempts".to_owned(), self.failed),
            ("  lost".to_owned(), self.lost.len()),
        ];
        rows.extend([
            ("promises that were broken".to_owned(), self.wrong.len()),
            ("messages left in the queues".to_owned(), self.left),
            ("records that still wait".to_owned(), self.waiting),
            ("dead-lettered events".to_owned(), self.dead.0),
            ("dead-lettered tasks".to_owned(), self.dead.1),
            ("deliveries that the statistics miss".to_owned(), self.uncounted),
        ]);
        rows
    }
}
