//! A machine for the pickles torch writes: it builds plain data and notes tensors, and calls nothing.
//!
//! Leaves out: checking tensors against their storages (state.rs). Invariant: values live in one
//! flat list, so no depth of nesting can exhaust the stack; work and memory are bounded by
//! [`OPCODES_MAX`]; an unknown global becomes an opaque placeholder and is remembered.
//!
//! Source: CPython `Lib/pickletools.py`; torch `torch/serialization.py`.

mod globals;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// Most opcodes of one pickle; the largest published weights need some twenty thousand.
const OPCODES_MAX: usize = 1 << 20;
/// Newest pickle protocol.
const PROTOCOL_MAX: u8 = 5;

/// What is wrong with a pickle, and at which byte.
#[derive(Debug)]
pub(super) struct Defect {
    pub(super) offset: usize,
    pub(super) expected: String,
    pub(super) found: String,
}

type Result<T, E = Defect> = std::result::Result<T, E>;

/// A value; anything with parts is an index into [`Pickle::objects`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian.
    Long(&'a [u8]),
    Float(f64),
    Text(&'a str),
    Bytes,
    Object(usize),
}

/// A value with parts.
#[derive(Clone, Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Global(&'a str, &'a str),
    /// A persistent id: the parts of its tuple.
    Storage(Vec<Value<'a>>),
    /// Arguments of `_rebuild_tensor_v2`: storage, offset, shape, strides, …
    Tensor(Vec<Value<'a>>),
    /// What an unknown global would have made.
    Opaque,
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) objects: Vec<Object<'a>>,
    pub(super) root: Value<'a>,
    /// First byte after it.
    pub(super) end: usize,
    /// The first global that stands outside of the allow-list.
    pub(super) unknown: Option<Defect>,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that starts at byte `start` of `data`.
    pub(super) fn read(data: &'a [u8], start: usize) -> Result<Self> {
        let mut machine = Machine {
            data,
            at: start,
            opcode_at: start,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
            objects: Vec::new(),
            unknown: None,
            copied: 0,
        };
        for _ in 0..OPCODES_MAX {
            machine.opcode_at = machine.at;
            let opcode = machine.byte()?;
            if opcode == b'.' {
                let root = machine.pop()?;
                let Machine { objects, unknown, at: end, .. } = machine;
                return Ok(Self { objects, root, end, unknown });
            }
            machine.step(opcode)?;
        }
        Err(machine.defect(format!("at most {OPCODES_MAX} opcodes (limit)"), "more"))
    }

    /// The object behind a value, if it has parts.
    pub(super) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }

    /// What kind of value it is, with the value where it is short.
    pub(super) fn describe(&self, value: Value<'a>) -> String {
        match value {
            Value::None => "None".to_owned(),
            Value::Bool(flag) => format!("bool {flag}"),
            Value::Int(number) => format!("int {number}"),
            Value::Long(bytes) => format!("int of {} bytes (overflow)", bytes.len()),
            Value::Float(number) => format!("float {number}"),
            Value::Text(text) => format!("'{}'", text.chars().take(80).collect::<String>()),
            Value::Bytes => "bytes".to_owned(),
            Value::Object(index) => match self.objects.get(index) {
                Some(Object::Tuple(_)) => "a tuple".to_owned(),
                Some(Object::List(_)) => "a list".to_owned(),
                Some(Object::Dict(_)) => "a dict".to_owned(),
                Some(Object::Global(module, name)) => format!("{module}.{name}"),
                Some(Object::Storage(_)) => "a storage".to_owned(),
                Some(Object::Tensor(_)) => "a tensor".to_owned(),
                Some(Object::Opaque) | None => "an unknown object".to_owned(),
            },
        }
    }
}

struct Machine<'a> {
    data: &'a [u8],
    at: usize,
    opcode_at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
    unknown: Option<Defect>,
    /// Items copied out of lists so far.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn defect(&self, expected: impl Into<String>, found: impl Into<String>) -> Defect {
        Defect { offset: self.opcode_at, expected: expected.into(), found: found.into() }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.frame(),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => self.top().map(|top| self.stack.push(top)),
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.memory(opcode),
            b'c' | 0x93 | b'Q' | b'R' | b'b' | 0x81 | 0x92 => self.name_or_call(opcode),
            b')' | b']' | b'}' | 0x8f | b't' | b'l' | b'd' | 0x85..=0x87 | 0x91 => {
                self.collect(opcode)
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(opcode),
            _ => self.scalar(opcode),
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            0..=PROTOCOL_MAX => Ok(()),
            found => {
                let expected = format!("a pickle protocol up to {PROTOCOL_MAX}");
                Err(self.defect(expected, found.to_string()))
            }
        }
    }

    fn frame(&mut self) -> Result<()> {
        let length = u64::from_le_bytes(self.array()?);
        let rest = self.data.len() - self.at;
        if usize::try_from(length).is_ok_and(|length| length <= rest) {
            return Ok(());
        }
        Err(self.defect(format!("a frame within {rest} bytes"), format!("{length} (truncated)")))
    }

    fn memory(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            b'q' | b'h' => u32::from(self.byte()?),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        if matches!(opcode, b'h' | b'j') {
            let Some(&value) = self.memo.get(&index) else {
                return Err(self.defect("a filled memo slot", format!("empty memo slot {index}")));
            };
            self.stack.push(value);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    /// Tuples, lists, dicts and sets (kept as lists).
    fn collect(&mut self, opcode: u8) -> Result<()> {
        let object = match opcode {
            b')' => Object::Tuple(Vec::new()),
            b']' | 0x8f => Object::List(Vec::new()),
            b'}' => Object::Dict(Vec::new()),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                Object::Tuple(items)
            }
            b't' => Object::Tuple(self.pop_to_mark()?),
            b'd' => {
                let items = self.pop_to_mark()?;
                Object::Dict(self.pairs(&items)?)
            }
            _ => Object::List(self.pop_to_mark()?),
        };
        self.push_object(object);
        Ok(())
    }

    /// Appends to the list, dict or placeholder below the new items.
    fn extend(&mut self, opcode: u8) -> Result<()> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        let pairs = matches!(opcode, b's' | b'u');
        let entries = if pairs { self.pairs(&items)? } else { Vec::new() };
        let Value::Object(index) = self.top()? else {
            return Err(self.defect("a list or dict below new items", "another value"));
        };
        match (self.objects.get_mut(index), pairs) {
            (Some(Object::List(list)), false) => list.extend(items),
            (Some(Object::Dict(dict)), true) => dict.extend(entries),
            (Some(Object::Opaque), _) => {}
            _ => return Err(self.defect("a list or dict below new items", "another object")),
        }
        Ok(())
    }

    fn pairs(&self, items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if rest.is_empty() {
            return Ok(pairs.iter().map(|&[key, value]| (key, value)).collect());
        }
        Err(self.defect("keys with values", format!("{} items", items.len())))
    }

    fn scalar(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            0x8a | 0x8b => {
                let bytes = self.counted(if opcode == 0x8a { 1 } else { 4 })?;
                long(bytes)
            }
            b'X' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'T' => self.text(4)?,
            b'B' => self.counted(4).map(|_| Value::Bytes)?,
            b'C' => self.counted(1).map(|_| Value::Bytes)?,
            0x8e | 0x96 => self.counted(8).map(|_| Value::Bytes)?,
            _ => {
                let name = match opcode {
                    b'i' => "INST, ",
                    b'o' => "OBJ, ",
                    0x82..=0x84 => "EXT, ",
                    _ => "",
                };
                return Err(
                    self.defect("a supported opcode", format!("{name}opcode {opcode:#04x}"))
                );
            }
        };
        self.stack.push(value);
        Ok(())
    }

    /// A text with its length in front; bytes that are not UTF-8 stay opaque (old `str` objects).
    fn text(&mut self, width: usize) -> Result<Value<'a>> {
        let bytes = self.counted(width)?;
        Ok(std::str::from_utf8(bytes).map_or(Value::Bytes, Value::Text))
    }

    /// Bytes behind a little-endian length of `width` bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8]> {
        let mut length = [0_u8; 8];
        length[..width].copy_from_slice(self.take(width as u64)?);
        self.take(u64::from_le_bytes(length))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(*self.take(N as u64)?.first_chunk().expect("take returns as many bytes as asked"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let Some(taken) = taken else {
            let expected = format!("{length} more bytes before STOP");
            let found = match rest.len() {
                0 if self.data.is_empty() => "an empty pickle".to_owned(),
                count => format!("its end after {count} (truncated)"),
            };
            return Err(self.defect(expected, found));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let end = rest.iter().take(1024).position(|&byte| byte == b'\n');
        let text = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        let text = text.ok_or_else(|| self.defect("a name and a line feed", "none (truncated)"))?;
        self.at += text.len() + 1;
        Ok(text)
    }

    fn push_object(&mut self, object: Object<'a>) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    fn top(&self) -> Result<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(floor..).and_then(<[_]>::last).copied();
        top.ok_or_else(|| self.defect("a value on the stack", "an empty stack"))
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark.min(self.stack.len()))),
            None => Err(self.defect("a mark on the stack", "no mark")),
        }
    }
}

fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut number = [if negative { 0xff } else { 0 }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(number))
}
