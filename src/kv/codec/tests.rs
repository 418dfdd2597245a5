use super::*;

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out);
    out
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]))
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
