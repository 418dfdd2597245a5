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
