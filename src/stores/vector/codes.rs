//! [`Codes`]: small numbers by row, each as wide as the largest of them needs.

/// Numbers by row. What lies beyond the end is 0.
#[derive(Clone, Debug)]
pub(super) enum Codes {
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Words(Vec<u32>),
}

/// The same for every width.
macro_rules! each_width {
    ($codes:expr, $list:ident => $then:expr) => {
        match $codes {
            Codes::Bytes($list) => $then,
            Codes::Shorts($list) => $then,
            Codes::Words($list) => $then,
        }
    };
}

impl Default for Codes {
    fn default() -> Self {
        Codes::Bytes(Vec::new())
    }
}

impl Codes {
    /// The code of `row`.
    pub(super) fn get(&self, row: u32) -> u32 {
        each_width!(self, list => get(list, row))
    }

    /// Sets the code of `row`; returns the one before.
    pub(super) fn set(&mut self, row: u32, code: u32) -> u32 {
        self.widen(code);
        match self {
            Codes::Bytes(list) => replace(list, row, u8::try_from(code).unwrap_or(0)),
            Codes::Shorts(list) => replace(list, row, u16::try_from(code).unwrap_or(0)),
            Codes::Words(list) => replace(list, row, code),
        }
    }

    /// Makes room for a code. Costs the rows, at most twice.
    fn widen(&mut self, code: u32) {
        if matches!(self, Codes::Bytes(_)) && code > u32::from(u8::MAX) {
            *self = Codes::Shorts(self.all().map(|code| code as u16).collect());
        }
        if matches!(self, Codes::Shorts(_)) && code > u32::from(u16::MAX) {
            *self = Codes::Words(self.all().collect());
        }
    }

    fn all(&self) -> impl Iterator<Item = u32> + '_ {
        let len = each_width!(self, list => list.len());
        (0..len).map(|row| self.get(row as u32))
    }

    /// Bits of the rows below `rows`: those that `hits` has, by code, as 0 or 1.
    pub(super) fn bits(&self, rows: usize, hits: &[u64]) -> Vec<u64> {
        each_width!(self, list => bits(list, rows, hits))
    }
}

fn get<C: Copy + Into<u32>>(list: &[C], row: u32) -> u32 {
    list.get(row as usize).map_or(0, |code| (*code).into())
}

fn replace<C: Copy + Default + Into<u32>>(list: &mut Vec<C>, row: u32, code: C) -> u32 {
    let place = row as usize;
    if list.len() <= place {
        list.resize(place + 1, C::default());
    }
    list.get_mut(place).map_or(0, |slot| std::mem::replace(slot, code).into())
}

fn bits<C: Copy + Into<u32>>(list: &[C], rows: usize, hits: &[u64]) -> Vec<u64> {
    let hit = |code: &C| hits.get((*code).into() as usize).copied().unwrap_or(0);
    let beyond = if hits.first() == Some(&1) { !0 } else { 0 };
    let mut bits = Vec::with_capacity(rows.div_ceil(64));
    for codes in list.get(..rows.min(list.len())).unwrap_or_default().chunks(64) {
        let word = codes.iter().rev().fold(0, |word, code| word << 1 | hit(code));
        let end = if codes.len() < 64 { beyond << codes.len() } else { 0 };
        bits.push(word | end);
    }
    bits.resize(rows.div_ceil(64), beyond);
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: codes stay what they are when wider ones come. Method: codes on both sides of each
    /// width, in any order, against a plain list.
    #[test]
    fn codes_of_all_widths_stay() {
        let mut codes = Codes::default();
        let mut plain = vec![0; 200];
        let values = [1, 0, 255, 7, 256, 255, 65_535, 3, 65_536, 0, 65_535, u32::MAX];
        for (step, code) in values.into_iter().enumerate() {
            for row in (step..200).step_by(step + 5) {
                assert_eq!(codes.set(row as u32, code), plain[row], "row {row}");
                plain[row] = code;
            }
            for (row, code) in plain.iter().enumerate() {
                assert_eq!(codes.get(row as u32), *code, "step {step}, row {row}");
            }
        }
        assert_eq!(codes.get(1_000), 0);
    }

    /// Goal: a bit is set where the code is a hit, beyond the list as for 0, and for any number of
    /// rows.
    #[test]
    fn bits_are_those_of_the_hits() {
        for first in [0, 1] {
            for last in [3, 300, 70_000] {
                let mut codes = Codes::default();
                for row in 0..130 {
                    codes.set(row, row % 3);
                }
                codes.set(129, last);
                let hits = [first, 0, 1];
                for rows in [0, 1, 63, 64, 65, 128, 130, 131, 300] {
                    let bits = codes.bits(rows, &hits);
                    assert_eq!(bits.len(), rows.div_ceil(64));
                    for row in 0..rows {
                        let hit = hits.get(codes.get(row as u32) as usize).copied().unwrap_or(0);
                        assert_eq!(bits[row / 64] >> (row % 64) & 1, hit, "row {row} of {rows}");
                    }
                }
            }
        }
    }
}
