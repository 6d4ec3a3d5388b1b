//! Features of a serialised `tf.train.Example`, found without copying.
//!
//! Leaves out: lists of floats and integers. Invariant: nothing is allocated, so a payload costs no more
//! memory than its bytes.
//!
//! Source: TensorFlow `core/example/{example,feature}.proto`; the Protocol Buffers encoding guide.

/// The first value of the bytes feature `name`; `None` where there is no such feature.
///
/// # Errors
/// What is wrong with the encoding, in words.
pub(super) fn bytes_feature<'a>(
    example: &'a [u8],
    name: &str,
) -> Result<Option<&'a [u8]>, &'static str> {
    // Example.features, then the entries of the map Features.feature.
    let Some(features) = find(example, 1)? else { return Ok(None) };
    let mut rest = features;
    while let Some((field, value)) = next_field(&mut rest)? {
        let (1, Some(entry)) = (field, value) else { continue };
        if find(entry, 1)? != Some(name.as_bytes()) {
            continue;
        }
        // The entry's value, Feature.bytes_list, BytesList.value.
        let Some(feature) = find(entry, 2)? else { return Ok(None) };
        let Some(list) = find(feature, 1)? else {
            return Err("a feature that holds no list of bytes");
        };
        return find(list, 1);
    }
    Ok(None)
}

/// The first field `wanted` of `message` that has a length.
fn find(message: &[u8], wanted: u64) -> Result<Option<&[u8]>, &'static str> {
    let mut rest = message;
    while let Some((field, value)) = next_field(&mut rest)? {
        if field == wanted && value.is_some() {
            return Ok(value);
        }
    }
    Ok(None)
}

/// Number of the next field, and its bytes if it has a length.
#[expect(clippy::type_complexity, reason = "a field is a number and perhaps bytes")]
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u64, Option<&'a [u8]>)>, &'static str> {
    if rest.is_empty() {
        return Ok(None);
    }
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => varint(rest).map(|_| None)?,
        1 => split(rest, 8).map(|_| None)?,
        2 => {
            let length = varint(rest)?;
            Some(split(rest, length)?)
        }
        5 => split(rest, 4).map(|_| None)?,
        _ => return Err("a field of unknown type"),
    };
    Ok(Some((key >> 3, value)))
}

fn split<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], &'static str> {
    let parts = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (value, after) = parts.ok_or("a field that is longer than the record")?;
    *rest = after;
    Ok(value)
}

fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or("a number that is cut")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number of more than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn example(name: &str, value: &[u8]) -> Vec<u8> {
        let list = field(1, &field(1, value));
        let entry = [field(1, name.as_bytes()), field(2, &list)].concat();
        field(1, &field(1, &entry))
    }

    #[test]
    fn a_feature_is_found_by_its_name() {
        let example = example("target", &[1, 2]);
        assert_eq!(bytes_feature(&example, "target"), Ok(Some(&[1, 2][..])));
        assert_eq!(bytes_feature(&example, "onehot"), Ok(None));
        assert!(bytes_feature(&example[..example.len() - 1], "target").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in Just(example("target", &[1, 2, 3])),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            for (index, byte) in flips {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let found = bytes_feature(&bytes, "target");
            prop_assert!(found.is_err() || found.is_ok_and(|value| value.is_none_or(|v| v.len() < 20)));
        }
    }
}
