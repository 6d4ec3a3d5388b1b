//! Which globals a pickle may name, and what a call of them makes.
//!
//! Leaves out: running any of them. Invariant: only the names in [`is_known`] build data; those of
//! [`is_forbidden`] are refused wherever they stand.

use super::{Machine, OPCODES_MAX, Object, Result, Value};

/// Arguments of a call that are looked at; nothing known has more.
const ARGUMENTS_MAX: usize = 8;

/// What a pickle of weights may name; shown in errors.
pub(in super::super) const KNOWN: &str = "collections.OrderedDict, torch._utils._rebuild_tensor_v2, \
     torch._utils._rebuild_parameter, torch.Size, torch.*Storage";

fn is_known(module: &str, name: &str) -> bool {
    match module {
        "collections" => name == "OrderedDict",
        "torch._utils" => {
            matches!(name, "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_parameter")
        }
        "torch" => name == "Size" || name.ends_with("Storage"),
        "torch.storage" => name.ends_with("Storage"),
        _ => false,
    }
}

/// Names that no training run leaves behind: a file with one of them was made to do harm.
fn is_forbidden(module: &str, name: &str) -> bool {
    const MODULES: &str = "_posixsubprocess asyncio code codeop commands ctypes http importlib \
         marshal multiprocessing nt os pdb pip posix pty runpy shutil socket subprocess sys timeit \
         urllib webbrowser";
    const BUILTINS: &str = "bool bytearray bytes complex dict float frozenset int list long object \
         range set slice str tuple type unicode xrange";
    let stands_in = |list: &str, word: &str| list.split(' ').any(|listed| listed == word);
    match module.split('.').next().unwrap_or_default() {
        "builtins" | "__builtin__" => !stands_in(BUILTINS, name),
        "numpy" => module.starts_with("numpy.testing"),
        top => stands_in(MODULES, top),
    }
}

impl<'a> Machine<'a> {
    /// GLOBAL, STACK_GLOBAL, BINPERSID, REDUCE, BUILD, NEWOBJ, NEWOBJ_EX.
    pub(super) fn name_or_call(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.global(module, name),
                _ => Err(self.defect("two texts below STACK_GLOBAL", "other values")),
            },
            b'Q' => {
                let id = self.pop_tuple("a tuple below BINPERSID")?;
                self.push_object(Object::Storage(id));
                Ok(())
            }
            b'b' => self.build(),
            _ => {
                if opcode == 0x92 {
                    self.pop()?;
                }
                let arguments = self.pop_tuple("a tuple of arguments")?;
                self.call(&arguments)
            }
        }
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Result<()> {
        let is_known = is_known(module, name);
        if !is_known {
            let expected = format!("an allowed global ({KNOWN})");
            let defect = self.defect(expected, format!("{module}.{name}"));
            if is_forbidden(module, name) {
                return Err(defect);
            }
            self.unknown.get_or_insert(defect);
        }
        self.push_object(Object::Global(module, name));
        Ok(())
    }

    /// The first [`ARGUMENTS_MAX`] items of a tuple.
    fn pop_tuple(&mut self, expected: &str) -> Result<Vec<Value<'a>>> {
        if let Value::Object(index) = self.pop()?
            && let Some(Object::Tuple(items)) = self.objects.get(index)
        {
            return Ok(items.iter().take(ARGUMENTS_MAX).copied().collect());
        }
        Err(self.defect(expected, "another value"))
    }

    fn call(&mut self, arguments: &[Value<'a>]) -> Result<()> {
        let callee = match self.pop()? {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        };
        let object = match callee {
            Some(Object::Opaque) => Object::Opaque,
            Some(&Object::Global(module, name)) => match (module, name, arguments) {
                ("collections", "OrderedDict", []) => Object::Dict(Vec::new()),
                ("collections", "OrderedDict", &[Value::Object(list)]) => {
                    Object::Dict(self.entries(list)?)
                }
                ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2", _) => {
                    Object::Tensor(arguments.to_vec())
                }
                ("torch._utils", "_rebuild_parameter", &[data, ..])
                | ("torch", "Size", &[data]) => {
                    self.stack.push(data);
                    return Ok(());
                }
                _ if is_known(module, name) => {
                    let found = format!("{} for {module}.{name}", arguments.len());
                    return Err(self.defect("a supported number of arguments", found));
                }
                _ => Object::Opaque,
            },
            _ => return Err(self.defect("an allowed global to call", "another value")),
        };
        self.push_object(object);
        Ok(())
    }

    /// The pairs of a list of two-element tuples or lists.
    fn entries(&mut self, list: usize) -> Result<Vec<(Value<'a>, Value<'a>)>> {
        let defect = || self.defect("a list of pairs for OrderedDict", "another value");
        let Some(Object::List(items)) = self.objects.get(list) else { return Err(defect()) };
        let copied = self.copied + items.len();
        if copied > OPCODES_MAX {
            return Err(self.defect(format!("at most {OPCODES_MAX} copied items (limit)"), "more"));
        }
        let pair = |item: &Value<'a>| match *item {
            Value::Object(index) => match self.objects.get(index) {
                Some(Object::Tuple(pair) | Object::List(pair)) => match pair.as_slice() {
                    &[key, value] => Ok((key, value)),
                    _ => Err(defect()),
                },
                _ => Err(defect()),
            },
            _ => Err(defect()),
        };
        let entries = items.iter().map(pair).collect::<Result<_>>()?;
        self.copied = copied;
        Ok(entries)
    }

    /// Drops attributes of dicts (`_metadata`), tensors and placeholders.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let target = match self.top()? {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        };
        let found = match target {
            Some(Object::Dict(_) | Object::Tensor(_) | Object::Opaque) => return Ok(()),
            Some(Object::Global(module, name)) => format!("BUILD on {module}.{name}"),
            _ => "BUILD on another value".to_owned(),
        };
        Err(self.defect("BUILD on a dict", found))
    }
}
