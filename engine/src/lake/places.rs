//! A compact map from keys to row places, for tables of many millions of rows.
//!
//! Keys are spread evenly over all bits, so their first bits choose a bucket; a bucket keeps its keys
//! sorted, beside their places. A row costs its key, four bytes and a few percent of slack, where a
//! hash table would need up to twice that, and growing splits buckets one by one instead of copying
//! everything.

/// Keys in a bucket before the buckets are split.
const BUCKET_KEYS: usize = 1_024;

/// A key whose bits are evenly spread.
pub(super) trait PlaceKey: Copy + Ord {
    /// The first `bits` bits.
    fn first_bits(self, bits: u32) -> usize;
}

impl PlaceKey for u64 {
    fn first_bits(self, bits: u32) -> usize {
        let first = self.checked_shr(u64::BITS - bits).unwrap_or(0);
        usize::try_from(first).unwrap_or(usize::MAX)
    }
}

impl PlaceKey for u128 {
    fn first_bits(self, bits: u32) -> usize {
        let first = self.checked_shr(u128::BITS - bits).unwrap_or(0);
        usize::try_from(first).unwrap_or(usize::MAX)
    }
}

/// The last 48 bits of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Short([u8; 6]);

impl PlaceKey for Short {
    fn first_bits(self, bits: u32) -> usize {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, 0, 0]).first_bits(bits)
    }
}

/// Keys from which on their first 16 bits choose one of as many maps, and need not be kept.
const SPLIT_KEYS_MIN: usize = 16_000_000;

/// A map from keys of 64 bits.
pub(super) enum WholePlaces {
    One(Places<u64>),
    /// By the first 16 bits of the key.
    Split(Vec<Places<Short>>),
}

impl WholePlaces {
    /// An empty map with buckets for so many keys.
    pub fn for_keys(keys: usize) -> Self {
        if keys < SPLIT_KEYS_MIN {
            return Self::One(Places::for_keys(keys));
        }
        let parts = 1 << 16;
        let part = || Places::for_keys(keys / parts);
        Self::Split(std::iter::repeat_with(part).take(parts).collect())
    }

    pub fn len(&self) -> usize {
        match self {
            Self::One(places) => places.len(),
            Self::Split(parts) => parts.iter().map(Places::len).sum(),
        }
    }

    pub fn get(&self, key: u64) -> Option<u32> {
        match self {
            Self::One(places) => places.get(key),
            Self::Split(parts) => {
                let (part, rest) = parted(key);
                parts.get(part)?.get(rest)
            }
        }
    }

    /// Sets the place of a key, and gives the one it had.
    pub fn put(&mut self, key: u64, place: u32) -> Option<u32> {
        match self {
            Self::One(places) => places.put(key, place),
            Self::Split(parts) => {
                let (part, rest) = parted(key);
                parts.get_mut(part)?.put(rest, place)
            }
        }
    }

    /// As [`Places::push`].
    pub fn push(&mut self, key: u64, place: u32) {
        match self {
            Self::One(places) => places.push(key, place),
            Self::Split(parts) => {
                let (part, rest) = parted(key);
                if let Some(part) = parts.get_mut(part) {
                    part.push(rest, place);
                }
            }
        }
    }

    /// As [`Places::settle`].
    pub fn settle(&mut self) -> bool {
        match self {
            Self::One(places) => places.settle(),
            Self::Split(parts) => {
                let mut doubled = false;
                for part in parts {
                    doubled |= part.settle();
                }
                doubled
            }
        }
    }

    /// Bytes that a map of so many keys will hold, about.
    pub fn bytes_for(keys: usize) -> usize {
        let key = match keys < SPLIT_KEYS_MIN {
            true => size_of::<u64>(),
            false => size_of::<Short>(),
        };
        keys.saturating_mul(key + size_of::<u32>()) / 32 * 33
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match self {
            Self::One(places) => places.bytes(),
            Self::Split(parts) => {
                let inside: usize = parts.iter().map(Places::bytes).sum();
                inside + parts.capacity() * size_of::<Places<Short>>()
            }
        }
    }
}

fn parted(key: u64) -> (usize, Short) {
    let [first, second, a, b, c, d, e, f] = key.to_be_bytes();
    let part = usize::from(u16::from_be_bytes([first, second]));
    (part, Short([a, b, c, d, e, f]))
}

/// The map.
pub(super) struct Places<K> {
    bits: u32,
    buckets: Vec<Bucket<K>>,
    len: usize,
}

struct Bucket<K> {
    keys: Vec<K>,
    places: Vec<u32>,
}

impl<K> Default for Bucket<K> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl<K: PlaceKey> Places<K> {
    /// An empty map with buckets for so many keys.
    pub fn for_keys(keys: usize) -> Self {
        let bits = keys.div_ceil(BUCKET_KEYS).next_power_of_two().ilog2();
        Self {
            bits,
            buckets: std::iter::repeat_with(Bucket::default)
                .take(1 << bits)
                .collect(),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, key: K) -> Option<u32> {
        let bucket = self.buckets.get(key.first_bits(self.bits))?;
        let index = bucket.keys.binary_search(&key).ok()?;
        bucket.places.get(index).copied()
    }

    /// Sets the place of a key, and gives the one it had.
    pub fn put(&mut self, key: K, place: u32) -> Option<u32> {
        let bucket = self.buckets.get_mut(key.first_bits(self.bits))?;
        match bucket.keys.binary_search(&key) {
            Ok(index) => Some(std::mem::replace(&mut bucket.places[index], place)),
            Err(index) => {
                bucket.reserve();
                bucket.keys.insert(index, key);
                bucket.places.insert(index, place);
                self.len += 1;
                if self.len > self.buckets.len() * BUCKET_KEYS * 2 {
                    self.split();
                }
                None
            }
        }
    }

    /// Takes a key without looking whether it is there already. [`Places::settle`] has to follow before
    /// anything is asked.
    pub fn push(&mut self, key: K, place: u32) {
        if let Some(bucket) = self.buckets.get_mut(key.first_bits(self.bits)) {
            bucket.reserve();
            bucket.keys.push(key);
            bucket.places.push(place);
            self.len += 1;
        }
    }

    /// Brings pushed keys into order. Gives whether a key was pushed twice; the last place stays.
    pub fn settle(&mut self) -> bool {
        let before = self.len;
        self.len = 0;
        for bucket in &mut self.buckets {
            bucket.settle();
            self.len += bucket.keys.len();
        }
        let doubled = self.len < before;
        while self.len > self.buckets.len() * BUCKET_KEYS * 2 {
            self.split();
        }
        doubled
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let entry = size_of::<K>() + size_of::<u32>();
        let keys: usize = self
            .buckets
            .iter()
            .map(|bucket| bucket.keys.capacity())
            .sum();
        keys * entry + self.buckets.capacity() * size_of::<Bucket<K>>()
    }

    /// Twice as many buckets. Keys are sorted, so the two halves of a bucket lie side by side.
    fn split(&mut self) {
        self.bits += 1;
        let mut halves = Vec::with_capacity(self.buckets.len() * 2);
        for (index, mut bucket) in std::mem::take(&mut self.buckets).into_iter().enumerate() {
            let middle = bucket
                .keys
                .partition_point(|key| key.first_bits(self.bits) <= index * 2);
            let upper = Bucket {
                keys: bucket.keys.split_off(middle),
                places: bucket.places.split_off(middle),
            };
            bucket.keys.shrink_to_fit();
            bucket.places.shrink_to_fit();
            halves.push(bucket);
            halves.push(upper);
        }
        self.buckets = halves;
    }
}

impl<K: PlaceKey> Bucket<K> {
    /// Room for one more, growing little: all buckets grow alike, so that slack is slack of the whole map.
    fn reserve(&mut self) {
        if self.keys.len() == self.keys.capacity() {
            let more = self.keys.len() / 32 + 4;
            self.keys.reserve_exact(more);
            self.places.reserve_exact(more);
        }
    }

    fn settle(&mut self) {
        let mut entries: Vec<(K, u32)> = self.keys.drain(..).zip(self.places.drain(..)).collect();
        entries.sort_by_key(|(key, _)| *key);
        // Of equal keys the last stays: the sort is stable, and `dedup` keeps the first it meets.
        entries.reverse();
        entries.dedup_by_key(|(key, _)| *key);
        for (key, place) in entries.into_iter().rev() {
            self.keys.push(key);
            self.places.push(place);
        }
        self.keys.shrink_to_fit();
        self.places.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Evenly spread and repeatable.
    fn spread(number: u64) -> u64 {
        let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn equals_a_hash_map_while_it_grows() {
        let mut places = Places::for_keys(0);
        let mut model = HashMap::new();
        for step in 0..50_000_u32 {
            let key = spread(u64::from(step) * 7 % 30_011);
            assert_eq!(places.put(key, step), model.insert(key, step));
        }
        assert_eq!(places.len(), model.len());
        assert!(places.buckets.len() > 8, "it never split");
        for number in 0..40_000 {
            let key = spread(number);
            assert_eq!(places.get(key), model.get(&key).copied());
        }
    }

    #[test]
    fn pushed_keys_are_found_after_settling_and_the_last_place_stays() {
        let mut places = Places::for_keys(10);
        for number in 0..10_000_u32 {
            places.push(u128::from(spread(u64::from(number))) << 64, number);
        }
        assert!(!places.settle());
        assert_eq!(places.len(), 10_000);
        let key = u128::from(spread(77)) << 64;
        assert_eq!(places.get(key), Some(77));
        places.push(key, 5);
        assert!(places.settle());
        assert_eq!((places.get(key), places.len()), (Some(5), 10_000));
    }

    #[test]
    fn a_split_map_equals_one_map_and_costs_less() {
        let count = 2_000_000;
        let mut one = WholePlaces::for_keys(0);
        let part = || Places::for_keys(0);
        let mut split = WholePlaces::Split(std::iter::repeat_with(part).take(1 << 16).collect());
        for number in 0..count {
            one.push(spread(u64::from(number)), number);
            split.push(spread(u64::from(number)), number);
        }
        assert!(!one.settle() && !split.settle());
        for number in (0..count * 2).step_by(7) {
            let key = spread(u64::from(number));
            assert_eq!(one.get(key), split.get(key));
            assert_eq!(one.put(key, 5), split.put(key, 5));
        }
        assert_eq!(one.len(), split.len());
        assert!(matches!(
            WholePlaces::for_keys(SPLIT_KEYS_MIN),
            WholePlaces::Split(_)
        ));
        let key = 0xFFFF_0000_0000_0001;
        assert_eq!((split.put(key, 1), split.get(key)), (None, Some(1)));
        assert_eq!(split.get(0x0000_0000_0000_0001), None);
    }

    #[test]
    fn a_row_costs_little_more_than_its_key_and_place() {
        let mut places = Places::for_keys(1_000_000);
        for number in 0..1_000_000_u32 {
            places.push(spread(u64::from(number)), number);
        }
        places.settle();
        let bytes = places.bytes();
        assert!(bytes < 14_000_000, "{bytes} bytes for a million rows");
    }
}
