//! [`Column`]: one metadata key of all rows, as codes that stand for distinct values, so that a
//! filter is decided once for each value and then only looked up.

use std::collections::HashMap;

use super::codes::Codes;
use crate::kv::{Value, codec};

/// The code of rows that have no value, or null.
const NONE: u32 = 0;

/// Values by row.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// By row; what lies beyond the end is [`NONE`].
    codes: Codes,
    /// By code. The first is that of [`NONE`].
    values: Vec<Known>,
    /// Codes by the stored form of their values.
    lookup: HashMap<Vec<u8>, u32>,
    /// Codes that no row has any more.
    free: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    value: Value,
    rows: usize,
}

fn stored(value: &Value) -> Vec<u8> {
    let mut stored = Vec::new();
    codec::encode(value, &mut stored);
    stored
}

impl Column {
    /// Gives `row` a value.
    pub(super) fn set(&mut self, row: u32, value: Option<&Value>) {
        let code = match value {
            None | Some(Value::Null) => NONE,
            Some(value) => self.code_for(value),
        };
        let old = self.codes.set(row, code);
        if let Some(known) = self.values.get_mut(code as usize) {
            known.rows += 1;
        }
        self.release(old);
    }

    /// The code of a value, a new one if there is none. Code 0 and unused ones count no rows.
    fn code_for(&mut self, value: &Value) -> u32 {
        let stored = stored(value);
        if let Some(code) = self.lookup.get(&stored) {
            return *code;
        }
        if self.values.is_empty() {
            self.values.push(Known::default());
        }
        let known = Known { value: value.clone(), rows: 0 };
        let code = match self.free.pop() {
            Some(code) => {
                if let Some(slot) = self.values.get_mut(code as usize) {
                    *slot = known;
                }
                code
            }
            None => {
                self.values.push(known);
                // There are never more values than rows, which are counted in 32 bits.
                u32::try_from(self.values.len() - 1).unwrap_or(NONE)
            }
        };
        self.lookup.insert(stored, code);
        code
    }

    fn release(&mut self, code: u32) {
        if code == NONE {
            return;
        }
        let Some(known) = self.values.get_mut(code as usize) else { return };
        known.rows = known.rows.saturating_sub(1);
        if known.rows == 0 {
            let value = std::mem::take(&mut known.value);
            self.lookup.remove(&stored(&value));
            self.free.push(code);
        }
    }

    /// True if no row has a value.
    pub(super) fn is_blank(&self) -> bool {
        self.lookup.is_empty()
    }

    /// The value of a row; null if it has none.
    pub(super) fn value(&self, row: u32) -> &Value {
        static NULL: Value = Value::Null;
        let code = self.codes.get(row);
        match self.values.get(code as usize) {
            Some(known) if code != NONE => &known.value,
            _ => &NULL,
        }
    }

    /// Bits of the rows below `rows` whose value `decide` accepts. It is called once for each
    /// value that a row has, and once for null.
    ///
    /// # Errors
    ///
    /// The first of `decide`'s, and the rest is not decided: rows that are not asked for may have
    /// that value, too.
    pub(super) fn bits(
        &self,
        rows: usize,
        decide: impl Fn(&Value) -> Result<bool, String>,
    ) -> Result<Vec<u64>, String> {
        let mut hits = Vec::with_capacity(self.values.len().max(1));
        hits.push(u64::from(decide(&Value::Null)?));
        for known in self.values.iter().skip(1) {
            hits.push(u64::from(known.rows > 0 && decide(&known.value)?));
        }
        Ok(self.codes.bits(rows, &hits))
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// Goal: the bits are right however values come and go. Method: random changes to a column and
    /// to a plain list.
    #[test]
    fn bits_follow_the_values() {
        for seed in 0..50u64 {
            eprintln!("seed {seed}");
            let mut rng = Rng::new(seed);
            let mut column = Column::default();
            let mut plain = vec![Value::Null; 200];
            for _ in 0..400 {
                let row = rng.below(150);
                let value = match rng.below(8) {
                    0 => Value::Null,
                    n => Value::from(n as i64),
                };
                column.set(row as u32, Some(&value));
                plain[row] = value;
            }
            for wanted in [Value::Null, Value::from(3), Value::from(9)] {
                let bits = column.bits(200, |value| Ok(*value == wanted)).expect("no error");
                for (row, value) in plain.iter().enumerate() {
                    let bit = bits[row / 64] >> (row % 64) & 1 == 1;
                    assert_eq!(bit, *value == wanted, "row {row}");
                    assert_eq!(column.value(row as u32), value);
                }
            }
            assert!(column.values.len() <= 9, "codes are used again");
        }
    }
}
