//! Where the rows of compacted files are now, so that whoever found rows before a compaction need not
//! search again.
//!
//! A compaction keeps the order of the living rows, so a row's new position follows from the rows deleted
//! before it. Only compactions of this process are known, and only the last ones: without the knowledge
//! a commit is refused, and nothing is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use roaring::RoaringTreemap;

/// Compactions that are remembered, and the bytes of their deletion vectors.
const MOVES_MAX: usize = 256;
const BYTES_MAX: usize = 32 << 20;

/// The last compactions of a table, oldest first.
#[derive(Debug, Default)]
pub(super) struct Moves {
    kept: VecDeque<Move>,
    bytes: usize,
}

/// Files whose living rows, one after the other, are now other files'.
#[derive(Debug, Default)]
pub(super) struct Move {
    /// By path: how many living rows came before the file's, and which of its rows were gone.
    pub from: BTreeMap<String, (u64, Arc<RoaringTreemap>)>,
    /// With their number of rows.
    pub to: Vec<(String, u64)>,
}

impl Moves {
    pub fn note(&mut self, moved: Move) {
        self.bytes += moved.bytes();
        self.kept.push_back(moved);
        while self.kept.len() > MOVES_MAX || self.bytes > BYTES_MAX {
            match self.kept.pop_front() {
                Some(oldest) => self.bytes -= oldest.bytes(),
                None => break,
            }
        }
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
        let (_, gone) = moved.from.get(path)?;
        self.of(path, &(deleted - gone.as_ref()))
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
        let (offset, gone) = moved.from.get(path)?;
        if !gone.is_disjoint(rows) {
            return None;
        }
        let mut now: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
        for row in rows {
            let living = offset + row - gone.rank(row);
            let (file, position) = moved.place(living)?;
            now.entry(file.to_owned()).or_default().insert(position);
        }
        Some(now)
    }
}

impl Move {
    fn bytes(&self) -> usize {
        let gone = self.from.values().map(|(_, gone)| gone.serialized_size());
        gone.sum::<usize>() + 128 * (self.from.len() + self.to.len())
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
        let gone = |rows: &[u64]| Arc::new(rows.iter().copied().collect::<RoaringTreemap>());
        let mut moves = Moves::default();
        // a: 0 1 2 3 without 1; b: 0 1 2. Living: a0 a2 a3 b0 b1 b2, cut after four.
        moves.note(Move {
            from: BTreeMap::from([
                ("a".to_owned(), (0, gone(&[1]))),
                ("b".to_owned(), (3, gone(&[]))),
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
    fn the_oldest_are_forgotten() {
        let mut moves = Moves::default();
        for number in 0..MOVES_MAX + 10 {
            moves.note(Move {
                from: BTreeMap::from([(number.to_string(), (0, Arc::default()))]),
                to: vec![("t".to_owned(), 1)],
            });
        }
        let rows: RoaringTreemap = [0].into_iter().collect();
        assert_eq!(moves.of("9", &rows), None);
        assert!(moves.of("10", &rows).is_some());
    }
}
