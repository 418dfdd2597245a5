use super::*;

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out);
    out
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]))
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    /// From a few, so that they come again: too short for a number, hex, almost hex, long.
    fn text(&mut self) -> Text {
        let len = [0, 7, 8, 15, 16, 17, 62, 64, 127, 128, 129, 130, 3000][self.below(13)];
        let alphabet = ["0123456789abcdef", "0123456789ABCDEF", "gh \u{e9}"][self.below(3)];
        let mut inner = Random(self.below(2) as u64);
        let letters: Vec<char> = alphabet.chars().collect();
        let mut text: String = (0..len).map(|_| letters[inner.below(letters.len())]).collect();
        match self.below(20) {
            0 => text.push_str(&self.below(100).to_string()),
            1 => return Text::from_code_points(text.chars().map(u32::from).chain([0xd800])),
            _ => {}
        }
        text.into()
    }

    fn value(&mut self, depth: usize) -> Value {
        let count = self.below(60);
        match self.below(if depth == 0 { 8 } else { 10 }) {
            0 => Value::Null,
            1 => Value::Int(self.below(1 << 20) as i64 - 999),
            2 => Value::Float(self.below(99) as f64 / 3.0),
            3..=7 => Value::Text(self.text()),
            8 => Value::List((0..count).map(|_| self.value(depth - 1)).collect()),
            _ => {
                let fields = (0..count).map(|_| (self.text(), self.value(depth - 1)));
                Value::Map(fields.collect())
            }
        }
    }
}

/// The lengths of all texts that are values, together.
fn text_len(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.iter().map(text_len).sum(),
        Value::Map(map) => map.iter().map(|(_, v)| text_len(v)).sum(),
        _ => 0,
    }
}

fn samples() -> Vec<Value> {
    let floats = |list: &[f64]| Value::List(list.iter().map(|f| Value::Float(*f)).collect());
    vec![
        Value::Null,
        true.into(),
        false.into(),
        Value::Int(0),
        Value::Int(63),
        Value::Int(64),
        Value::Int(-1),
        Value::Int(i64::MAX),
        Value::Int(i64::MIN),
        u64::MAX.into(),
        Value::integer("-99999999999999999999999999").expect("an integer"),
        Value::Float(-0.0),
        Value::Float(0.1),
        Value::Float(f64::NAN),
        Value::Float(f64::from_bits(0x7ff0_0000_0000_0001)),
        Value::Float(f64::NEG_INFINITY),
        "".into(),
        "x".repeat(127).into(),
        "x".repeat(128).into(),
        Text::from_code_points([0xd800, 0x1f600]).into(),
        Value::List(vec![]),
        Value::List(vec![Value::Int(1), Value::Float(1.0)]),
        floats(&[0.5, 1.0, -3.25]),
        floats(&[0.1, 1.0]),
        texts(&["00112233aabbccdd", "00112233AABBCCDD", "a text", "a text", "00112233aabbccdd"]),
        Value::List(vec![Text::from_code_points([0xd800, 0xd801, 0xd802]).into(); 3]),
        Map::new().into(),
        [("", Value::Null), ("text", "t".into()), (&*"k".repeat(127), 1.into())]
            .into_iter()
            .collect::<Map>()
            .into(),
        nested(VALUE_DEPTH_MAX),
    ]
}

#[test]
fn every_kind_of_value_round_trips() {
    for value in samples() {
        let bytes = encoded(&value);
        assert_eq!(decode(&bytes).as_ref(), Ok(&value));
        if let (Value::Float(a), Ok(Value::Float(b))) = (&value, decode(&bytes)) {
            assert_eq!(a.to_bits(), b.to_bits(), "the bits of a float are kept");
        }
    }
}

#[test]
fn the_format_is_pinned() {
    let value: Map = [("text", Value::from("hi")), ("n", Value::Int(-1))].into_iter().collect();
    assert_eq!(encoded(&value.into()), b"\x01\x0c\x02\x96\x82hi\x01n\x03\x01");
    let list = Value::List(vec![Value::Float(1.0), Value::Float(-2.0)]);
    assert_eq!(encoded(&list), b"\x01\x0a\x02\0\0\x80\x3f\0\0\0\xc0");
    assert_eq!(encoded(&Value::Float(0.1)), b"\x01\x06\x9a\x99\x99\x99\x99\x99\xb9\x3f");
    let again = texts(&["LlamaIndex", "00112233aabbccdd", "LlamaIndex"]);
    let stored = b"\x01\x09\x03\x8aLlamaIndex\x0e\x08\x00\x11\x22\x33\xaa\xbb\xcc\xdd\x0f\x01";
    assert_eq!(encoded(&again), stored);
    let short = texts(&["1234567", "1234567", "TextNode", "12345678", "12345678"]);
    let stored = b"\x01\x09\x05\x871234567\x871234567\x0d\x03\x8812345678\x0f\x00";
    assert_eq!(encoded(&short), stored);
    let big = encoded(&Value::from(u64::MAX));
    assert_eq!(big, b"\x01\x04\x1418446744073709551615");
    for (index, known) in KNOWN_TEXTS.into_iter().enumerate() {
        assert_eq!(encoded(&known.into()), [VERSION, tag::KNOWN_TEXT, index as u8]);
    }
    for (index, known) in KNOWN_KEYS.into_iter().enumerate() {
        let map: Map = [(known, Value::Null)].into_iter().collect();
        assert_eq!(encoded(&map.into()), [VERSION, tag::MAP, 1, 0x80 + index as u8, 0]);
    }
    // The known strings are part of the format: a change here breaks every store.
    let pin = |known: &[&str]| crc32fast::hash(known.join("\0").as_bytes());
    assert_eq!(pin(&KNOWN_KEYS), 2_346_783_088, "append, and pin the longer list");
    assert_eq!(pin(&KNOWN_TEXTS), 2_540_325_895, "append, and pin the longer list");
}

#[test]
fn damaged_bytes_are_an_error_or_another_value_but_never_a_panic() {
    for value in samples() {
        let bytes = encoded(&value);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "a prefix is no value");
        }
        assert!(decode(&[&bytes[..], b"\0"].concat()).is_err(), "nor is anything longer");
        for bit in 0..bytes.len().min(200) * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&damaged);
        }
    }
}

#[test]
fn lies_about_counts_allocate_nothing() {
    for tag in [tag::TEXT, tag::LIST, tag::F32_LIST, tag::F64_LIST, tag::MAP] {
        let mut bytes = vec![VERSION, tag];
        put_varint(1 << 40, &mut bytes);
        assert!(decode(&bytes).is_err());
        let mut bytes = vec![VERSION, tag];
        put_varint(u64::MAX, &mut bytes);
        assert!(decode(&bytes).is_err());
    }
    assert!(decode(&encoded(&nested(VALUE_DEPTH_MAX + 1))).is_err());
    assert!(decode(&vec![tag::LIST; 1 << 20]).is_err());
}

fn texts(texts: &[&str]) -> Value {
    Value::List(texts.iter().map(|text| Value::from(*text)).collect())
}

#[test]
fn digests_are_packed_and_repeats_point_back() {
    let digest = "00112233445566778899aabbccddeeff";
    let packed =
        b"\x01\x09\x03\x0e\x10\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    let list = texts(&[digest, "a path of some length", digest]);
    let bytes = encoded(&list);
    assert_eq!(bytes, [&packed[..], b"\x95a path of some length\x0f\x01"].concat());
    assert_eq!(decode(&bytes), Ok(list));
    // Too short, odd, upper case, no digits: written as they are.
    for text in ["0011223344556", "00112233445566778", "00112233445566AA", "0011223344556677 "] {
        let list = texts(&[text, text]);
        let bytes = encoded(&list);
        assert_eq!(bytes.len(), 3 + 1 + text.len() + 2, "{text}");
        assert_eq!(decode(&bytes), Ok(list));
    }
}

/// Goal: whatever is repeated, a value comes back, also where the ring of texts turns over.
#[test]
fn repeats_come_back_at_any_distance() {
    for distance in 0..2 * REPEAT_BACK_MAX {
        let mut list: Vec<String> = vec!["the repeated text".to_owned()];
        list.extend((0..distance).map(|n| format!("text number {n}")));
        list.extend(["short".to_owned(), list[0].clone(), list[0].clone()]);
        let list = texts(&list.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(decode(&encoded(&list)), Ok(list), "at distance {distance}");
    }
}

#[test]
fn repeats_cannot_blow_up() {
    // Written by us: many repeats of a long text are cut off by the writer's own bound.
    let long = "x".repeat(10_000);
    let list = Value::List(vec![long.as_str().into(); 200]);
    let bytes = encoded(&list);
    assert!(bytes.len() * (REPEAT_GROWTH_MAX + 1) >= 200 * long.len());
    assert!(bytes.len() < 200 * long.len() / 4);
    assert_eq!(decode(&bytes), Ok(list));
    // Made by hand: a megabyte of repeats of a long text.
    let mut bytes = vec![VERSION, tag::LIST];
    put_varint(500_001, &mut bytes);
    bytes.push(tag::TEXT);
    put_bytes(long.as_bytes(), &mut bytes);
    bytes.extend([tag::REPEAT, 0].repeat(500_000));
    assert!(decode(&bytes).is_err());
    assert!(decode(&[VERSION, tag::REPEAT, 0]).is_err(), "nothing to repeat");
}

#[test]
fn only_digits_that_come_back_are_packed() {
    let digits = "0123456789abcdef".repeat(33);
    for (len, packed) in [(14, false), (15, false), (16, true), (17, false), (510, true)] {
        let text = &digits[..len];
        let stored = encoded(&text.into());
        assert_eq!(stored[1] == tag::HEX, packed, "{len} digits");
        assert_eq!(stored.len(), if packed { 3 + len / 2 } else { 2 + len }, "{len} digits");
        assert_eq!(decode(&stored), Ok(text.into()));
    }
    assert_eq!(encoded(&digits[..512].into())[1], tag::TEXT, "256 bytes are no u8");
    for at in 0..64 {
        for other in ["/", ":", "@", "A", "F", "`", "g", "\u{0}"] {
            let mut text = digits[..64].to_owned();
            text.replace_range(at..=at, other);
            let stored = encoded(&text.as_str().into());
            assert_eq!(stored[1], tag::SHORT_TEXT + 64, "{text}");
            assert_eq!(decode(&stored), Ok(text.into()));
        }
    }
    // Writers never make these; readers take them.
    assert_eq!(decode(&[VERSION, tag::HEX, 0]), Ok("".into()));
    assert_eq!(decode(&[VERSION, tag::HEX, 1, 0xaf]), Ok("af".into()));
}

#[test]
fn only_the_newest_texts_are_remembered() {
    let names: Vec<String> = (0..=REPEAT_BACK_MAX).map(|i| format!("name {i:06}")).collect();
    for (distinct, repeats) in [(REPEAT_BACK_MAX, true), (REPEAT_BACK_MAX + 1, false)] {
        let mut list: Vec<&str> = names.iter().take(distinct).map(String::as_str).collect();
        list.push(&names[0]);
        let stored = encoded(&texts(&list));
        assert_eq!(stored.ends_with(&[tag::REPEAT, 31]), repeats, "after {distinct} texts");
        assert_eq!(decode(&stored), Ok(texts(&list)));
    }
    // Shorter ones, known ones and repeats do not count.
    let stored = b"\x01\x09\x05\x8812345678\x871234567\x0d\x03\x0f\x00\x0f\x00";
    let list = texts(&["12345678", "1234567", "TextNode", "12345678", "12345678"]);
    assert_eq!(decode(stored), Ok(list));
    for absent in [1, 31, 32, 255] {
        let stored = [&b"\x01\x09\x02\x8812345678\x0f"[..], &[absent]].concat();
        let error = decode(&stored).expect_err("one text is remembered");
        assert_eq!((error.offset, error.what), (14, "a text is repeated that was not there"));
    }
}

/// Goal: the bound is met to the byte, and writers use what readers allow.
#[test]
fn repeats_end_at_the_bound() {
    // 6 + 1,010 bytes, then 2 a repeat: 8 repeats are within 8 times the 1,030 bytes that precede
    // the last one.
    let body = "x".repeat(1_010);
    let attempt = |repeats: u8, padding: usize| {
        let mut bytes = vec![VERSION, tag::LIST, repeats + 1 + padding as u8, tag::TEXT];
        put_bytes(body.as_bytes(), &mut bytes);
        bytes.extend([tag::REPEAT, 0].repeat(repeats.into()));
        bytes.extend(vec![tag::NULL; padding]);
        bytes
    };
    let eight = attempt(8, 0);
    assert_eq!(decode(&eight), Ok(Value::List(vec![body.as_str().into(); 9])));
    assert_eq!(encoded(&Value::List(vec![body.as_str().into(); 9])), eight);
    // 9 x 1,010 = 9,090 bytes need 1,137 stored ones.
    let len = attempt(9, 0).len();
    assert!(decode(&attempt(9, 1_136 - len)).is_err());
    assert!(decode(&attempt(9, 1_137 - len)).is_ok());
}

/// Goal: no stored value holds more text than this times its length: 8 for repeats, 2 for digits,
/// 14 for known texts, which take two bytes.
const LEN_RATIO_MAX: usize = 24;

#[test]
fn random_values_round_trip() {
    for seed in 0..300 {
        let value = Random(seed).value(3);
        let mut out = b"what stands before does not count".to_vec();
        encode(&value, &mut out);
        let stored = &out[33..];
        assert_eq!(stored, encoded(&value), "seed {seed}");
        assert_eq!(decode(stored).as_ref(), Ok(&value), "seed {seed}");
        assert!(text_len(&value) <= LEN_RATIO_MAX * stored.len(), "seed {seed}");
    }
}

#[test]
fn arbitrary_bytes_give_an_error_or_a_value_of_bounded_size() {
    let mut values = 0;
    for seed in 0..30_000 {
        let mut random = Random(seed);
        let mut bytes = vec![VERSION, tag::LIST, 0];
        let count = random.below(0x80);
        bytes[2] = count as u8;
        for _ in 0..count {
            match random.below(40) {
                0 => bytes.push(random.below(256) as u8),
                1..=9 => bytes.extend_from_slice(&[tag::REPEAT, random.below(4) as u8]),
                10..=19 => bytes.extend_from_slice(&[tag::HEX, 4, 0xfe, 0xdc, 0xba, 0x98]),
                20..=29 => {
                    bytes.push(tag::SHORT_TEXT + 90);
                    bytes.extend([b'a' + random.below(3) as u8; 90]);
                }
                _ => bytes.extend_from_slice(&[tag::KNOWN_TEXT, random.below(10) as u8]),
            }
        }
        let Ok(value) = decode(&bytes) else { continue };
        values += 1;
        assert!(text_len(&value) <= LEN_RATIO_MAX * bytes.len(), "seed {seed}");
        assert_eq!(decode(&encoded(&value)), Ok(value), "seed {seed}");
    }
    assert!(values > 100, "enough of them are values: {values}");
    for seed in 0..100_000 {
        let mut random = Random(seed);
        let mut bytes = vec![VERSION];
        bytes.extend((0..random.below(64)).map(|_| random.below(256) as u8));
        if let Ok(value) = decode(&bytes) {
            assert_eq!(decode(&encoded(&value)), Ok(value), "seed {seed}");
        }
    }
}
