//! Where the rows of compacted files are now, so that whoever found rows before a compaction need not
//! search again.
//!
//! A compaction keeps the order of the living rows, so a row's new position follows from the rows deleted
//! before it. Only compactions of this process are known, and only the last ones: without the knowledge
//! a commit is refused, and nothing is lost.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::snapshot::DataFile;

/// Compactions that are remembered, and the bytes of their deletion vectors.
const MOVES_MAX: usize = 256;
const BYTES_MAX: usize = 32 << 20;

/// The last compactions of a table, oldest first.
#[derive(Debug, Default)]
pub(super) struct Moves {
    kept: VecDeque<Arc<Move>>,
    bytes: usize,
}

/// Files whose living rows, one after the other, are now other files'.
#[derive(Debug, Default)]
pub(super) struct Move {
    /// By path.
    pub from: BTreeMap<String, MovedFile>,
    /// With their number of rows.
    pub to: Vec<(String, u64)>,
}

/// A file whose living rows are others' now.
#[derive(Debug, Default)]
pub(super) struct MovedFile {
    /// How many living rows came before its.
    pub before: u64,
    /// Which of its rows were gone.
    pub gone: Arc<RoaringTreemap>,
    /// The file as it was.
    pub file: Option<Arc<DataFile>>,
}

impl Moves {
    pub fn note(&mut self, moved: Move) {
        self.bytes += moved.bytes();
        self.kept.push_back(Arc::new(moved));
        while self.kept.len() > MOVES_MAX || self.bytes > BYTES_MAX {
            match self.kept.pop_front() {
                Some(oldest) => self.bytes -= oldest.bytes(),
                None => break,
            }
        }
    }

    /// Whether a compaction began with a file for which `is_known` holds.
    pub fn any_from(&self, is_known: impl Fn(&str) -> bool) -> bool {
        let mut kept = self.kept.iter().rev();
        kept.any(|one| one.from.keys().any(|path| is_known(path)))
    }

    /// The compactions, oldest first, that lead to files for which `is_live` holds, by way of one another, from
    /// files for which it does not. Those that led to files for which `is_known` holds are left out.
    pub fn leading_to(
        &self,
        is_live: impl Fn(&str) -> bool,
        is_known: impl Fn(&str) -> bool,
    ) -> Vec<Arc<Move>> {
        let mut gone: HashSet<&str> = HashSet::new();
        let mut found = Vec::new();
        for moved in self.kept.iter().rev() {
            let mut to = moved.to.iter();
            let leads = to.all(|(path, _)| {
                !is_known(path) && (is_live(path) || gone.contains(path.as_str()))
            });
            // Another compaction of the same files has taken place instead.
            let fresh = |path: &String| !is_live(path) && !gone.contains(path.as_str());
            if leads && moved.from.keys().all(fresh) {
                gone.extend(moved.from.keys().map(String::as_str));
                found.push(Arc::clone(moved));
            }
        }
        found.reverse();
        found
    }

    /// Takes back a compaction that did not take place.
    pub fn forget(&mut self, written: &[String]) {
        let mut bytes = 0;
        self.kept.retain(|one| {
            let mut to = one.to.iter();
            let stays = !to.any(|(path, _)| written.contains(path));
            bytes += if stays { 0 } else { one.bytes() };
            stays
        });
        self.bytes -= bytes;
    }

    /// Where the rows of a file are that were deleted since it was read to be compacted. `None` when how it
    /// was compacted is not known.
    pub fn of_late(
        &self,
        path: &str,
        deleted: &RoaringTreemap,
    ) -> Option<BTreeMap<String, RoaringTreemap>> {
        let mut newest = self.kept.iter().rev();
        let moved = newest.find(|one| one.from.contains_key(path))?;
        let from = moved.from.get(path)?;
        self.of(path, &(deleted - from.gone.as_ref()))
    }

    /// Where rows of a file are now, by path. `None` when that is not known, or one of them was gone.
    pub fn of(
        &self,
        path: &str,
        rows: &RoaringTreemap,
    ) -> Option<BTreeMap<String, RoaringTreemap>> {
        let moved = self
            .kept
            .iter()
            .rev()
            .find(|one| one.from.contains_key(path))?;
        let MovedFile { before, gone, .. } = moved.from.get(path)?;
        if !gone.is_disjoint(rows) {
            return None;
        }
        let mut now: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
        for row in rows {
            let living = before + row - gone.rank(row);
            let (file, position) = moved.place(living)?;
            now.entry(file.to_owned()).or_default().insert(position);
        }
        Some(now)
    }
}

impl Move {
    fn bytes(&self) -> usize {
        let gone = self.from.values().map(|from| from.gone.serialized_size());
        gone.sum::<usize>() + 512 * (self.from.len() + self.to.len())
    }

    fn place(&self, mut row: u64) -> Option<(&str, u64)> {
        for (file, rows) in &self.to {
            if row < *rows {
                return Some((file, row));
            }
            row -= rows;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_where_a_compaction_put_them() {
        let from = |before: u64, gone: &[u64]| MovedFile {
            before,
            gone: Arc::new(gone.iter().copied().collect()),
            file: None,
        };
        let mut moves = Moves::default();
        // a: 0 1 2 3 without 1; b: 0 1 2. Living: a0 a2 a3 b0 b1 b2, cut after four.
        moves.note(Move {
            from: BTreeMap::from([
                ("a".to_owned(), from(0, &[1])),
                ("b".to_owned(), from(3, &[])),
            ]),
            to: vec![("c".to_owned(), 4), ("d".to_owned(), 2)],
        });
        let of = |path: &str, rows: &[u64]| {
            let found = moves.of(path, &rows.iter().copied().collect())?;
            let found = found.into_iter();
            Some(
                found
                    .map(|(path, rows)| (path, rows.iter().collect()))
                    .collect::<Vec<(_, Vec<u64>)>>(),
            )
        };
        assert_eq!(of("a", &[0, 2, 3]), Some(vec![("c".into(), vec![0, 1, 2])]));
        assert_eq!(
            of("b", &[0, 1, 2]),
            Some(vec![("c".into(), vec![3]), ("d".into(), vec![0, 1])])
        );
        assert_eq!(of("a", &[1, 2]), None);
        // Row 1 was gone when the file was read; rows 0 and 3 were deleted since.
        let late: RoaringTreemap = [0, 1, 3].into_iter().collect();
        let late = moves.of_late("a", &late).unwrap();
        assert_eq!(late, BTreeMap::from([("c".to_owned(), [0, 2].into())]));
        moves.forget(&["d".to_owned()]);
        assert!(moves.of("a", &[0].into()).is_none() && moves.bytes == 0);
        let of = |path: &str, rows: &[u64]| moves.of(path, &rows.iter().copied().collect());
        assert_eq!(of("x", &[0]), None);
    }

    #[test]
    fn compactions_lead_from_one_to_the_next() {
        let moved = |from: &[&str], to: &[&str]| Move {
            from: from
                .iter()
                .map(|path| ((*path).to_owned(), MovedFile::default()))
                .collect(),
            to: to.iter().map(|path| ((*path).to_owned(), 1)).collect(),
        };
        let mut moves = Moves::default();
        moves.note(moved(&["a", "b"], &["never"]));
        moves.note(moved(&["a", "b"], &["c", "d"]));
        moves.note(moved(&["d"], &["e"]));
        moves.note(moved(&["x"], &["y"]));
        moves.note(moved(&["w"], &["known"]));
        moves.note(moved(&["known"], &["v"]));
        let to = |live: &[&str]| -> Vec<String> {
            let found = moves.leading_to(|path| live.contains(&path), |path| path == "known");
            let found = found.iter();
            found.map(|moved| moved.to[0].0.clone()).collect()
        };
        assert_eq!(to(&["c", "e"]), ["c", "e"]);
        assert_eq!(to(&["c", "d"]), ["c"]);
        assert_eq!(to(&["c", "z"]), [""; 0]);
        assert_eq!(to(&["x", "y"]), [""; 0]);
        assert_eq!(to(&["v"]), ["v"]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut moves = Moves::default();
        for number in 0..MOVES_MAX + 10 {
            moves.note(Move {
                from: BTreeMap::from([(number.to_string(), MovedFile::default())]),
                to: vec![("t".to_owned(), 1)],
            });
        }
        let rows: RoaringTreemap = [0].into_iter().collect();
        assert_eq!(moves.of("9", &rows), None);
        assert!(moves.of("10", &rows).is_some());
    }
}
