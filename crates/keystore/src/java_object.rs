//! A serialized Java object, as far as keystores need it: one object with its fields, found by name.
//!
//! In a JCEKS keystore a secret key is a `SealedObjectForKeyProtector` that `ObjectOutputStream` has written; inside
//! the sealing is another such stream with a `SecretKeySpec` or a `KeyRep`. Specification: Java Object Serialization,
//! chapter 6. Nothing is instantiated; what is not needed here (custom `writeObject` data, proxies, arrays other than
//! of bytes) is refused.
//!
//! ```text
//! stream:  ACED 0005 | content                     handles count every class, string, array, object from 7E0000 on
//! 70 null        71 reference: handle u32          74 string: text
//! 72 class: name text, id u64, flags u8 (must be 02), count u16, fields, annotation until 78, class of its parent
//!    field: type letter u8, name text; for `[` and `L` the type's name as a string or a reference
//! 73 object: class, then the values of all fields, its parent's first
//! 75 array: class, count u32, values               7E enum: class, name as a string
//! ```

use std::rc::Rc;

use crate::error::KeystoreError;
use crate::java_store::Input;

const MAGIC: &[u8] = &[0xac, 0xed, 0, 5];
const FIRST_HANDLE: u32 = 0x7e_0000;
/// Classes, strings and arrays of one object; a key has about ten.
const MOST_HANDLES: usize = 256;
/// Objects in objects, parents of parents.
const MOST_DEPTH: usize = 16;

const NULL: u8 = 0x70;
const REFERENCE: u8 = 0x71;
const CLASS: u8 = 0x72;
const OBJECT: u8 = 0x73;
const STRING: u8 = 0x74;
const ARRAY: u8 = 0x75;
const END_OF_ANNOTATION: u8 = 0x78;
const ENUM: u8 = 0x7e;
/// Plain fields, no `writeObject`.
const SERIALIZABLE: u8 = 0x02;

/// An object: its class and its fields that are text or bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct JavaObject<'f> {
    pub(crate) class: String,
    fields: Vec<(String, Value<'f>)>,
}

#[derive(Debug, Clone)]
enum Value<'f> {
    Bytes(&'f [u8]),
    Text(String),
    Class(Rc<Class>),
    /// Something that nobody asks for.
    Other,
}

#[derive(Debug)]
struct Class {
    name: String,
    /// Type letter and name.
    fields: Vec<(u8, String)>,
    parent: Option<Rc<Class>>,
}

impl<'f> JavaObject<'f> {
    pub(crate) fn bytes(&self, name: &str) -> Result<&'f [u8], KeystoreError> {
        match self.field(name) {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Err(bad("field of a Java object")),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str, KeystoreError> {
        match self.field(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(bad("field of a Java object")),
        }
    }

    fn field(&self, name: &str) -> Option<&Value<'f>> {
        let mut found = self.fields.iter().filter(|(field, _)| field == name);
        found.next().map(|(_, value)| value)
    }
}

/// Reads one stream with one object; `input` is behind it afterwards.
pub(crate) fn read_object<'f>(input: &mut Input<'f>) -> Result<JavaObject<'f>, KeystoreError> {
    if input.take(MAGIC.len())? != MAGIC {
        return Err(bad("Java object"));
    }
    let mut stream = Stream {
        input,
        handles: Vec::new(),
        object: None,
    };
    match stream.content(0)? {
        Value::Other => stream.object.ok_or_else(|| bad("Java object")),
        _ => Err(bad("Java object")),
    }
}

struct Stream<'i, 'f> {
    input: &'i mut Input<'f>,
    handles: Vec<Value<'f>>,
    /// The outermost object.
    object: Option<JavaObject<'f>>,
}

impl<'f> Stream<'_, 'f> {
    fn content(&mut self, depth: usize) -> Result<Value<'f>, KeystoreError> {
        if depth > MOST_DEPTH {
            return Err(bad("depth of a Java object"));
        }
        match self.input.u8()? {
            NULL => Ok(Value::Other),
            REFERENCE => {
                let handle = self.input.u32()?.checked_sub(FIRST_HANDLE);
                let value = handle.and_then(|handle| self.handles.get(handle as usize));
                value.cloned().ok_or_else(|| bad("Java reference"))
            }
            CLASS => self.class(depth).map(Value::Class),
            STRING => {
                let text = Value::Text(self.input.text()?.into_owned());
                self.handle(text.clone())?;
                Ok(text)
            }
            ARRAY => self.array(depth),
            OBJECT => self.object(depth),
            ENUM => {
                self.expect_class(depth)?;
                self.handle(Value::Other)?;
                self.content(depth + 1)?;
                Ok(Value::Other)
            }
            other => Err(KeystoreError::Unsupported {
                what: "Java object of a kind",
                id: format!("{other:#04x}"),
            }),
        }
    }

    fn handle(&mut self, value: Value<'f>) -> Result<usize, KeystoreError> {
        if self.handles.len() >= MOST_HANDLES {
            return Err(bad("number of parts of a Java object"));
        }
        self.handles.push(value);
        Ok(self.handles.len() - 1)
    }

    fn expect_class(&mut self, depth: usize) -> Result<Rc<Class>, KeystoreError> {
        match self.content(depth + 1)? {
            Value::Class(class) => Ok(class),
            _ => Err(bad("class of a Java object")),
        }
    }

    fn class(&mut self, depth: usize) -> Result<Rc<Class>, KeystoreError> {
        let name = self.input.text()?.into_owned();
        self.input.take(8)?;
        let handle = self.handle(Value::Other)?;
        let flags = self.input.u8()?;
        let is_enum = flags & 0x10 != 0;
        if flags & !0x10 != SERIALIZABLE {
            return Err(KeystoreError::Unsupported {
                what: "Java class with data of its own",
                id: name,
            });
        }
        let mut fields = Vec::new();
        for _ in 0..self.input.u16()? {
            let kind = self.input.u8()?;
            let field = self.input.text()?.into_owned();
            if matches!(kind, b'[' | b'L') {
                self.content(depth + 1)?;
            }
            fields.push((kind, field));
        }
        if self.input.u8()? != END_OF_ANNOTATION {
            return Err(bad("class of a Java object"));
        }
        let parent = match self.content(depth + 1)? {
            Value::Class(class) => Some(class),
            Value::Other => None,
            _ => return Err(bad("class of a Java object")),
        };
        let class = Rc::new(Class {
            name,
            fields: if is_enum { Vec::new() } else { fields },
            parent,
        });
        self.handles[handle] = Value::Class(Rc::clone(&class));
        Ok(class)
    }

    fn array(&mut self, depth: usize) -> Result<Value<'f>, KeystoreError> {
        let class = self.expect_class(depth)?;
        if class.name != "[B" {
            return Err(KeystoreError::Unsupported {
                what: "Java array",
                id: class.name.clone(),
            });
        }
        let handle = self.handle(Value::Other)?;
        let bytes = Value::Bytes(self.input.block()?);
        self.handles[handle] = bytes.clone();
        Ok(bytes)
    }

    fn object(&mut self, depth: usize) -> Result<Value<'f>, KeystoreError> {
        let class = self.expect_class(depth)?;
        self.handle(Value::Other)?;
        let mut lineage = vec![Rc::clone(&class)];
        while let Some(parent) = lineage.last().and_then(|class| class.parent.clone()) {
            lineage.push(parent);
            if lineage.len() > MOST_DEPTH {
                return Err(bad("depth of a Java object"));
            }
        }
        let mut fields = Vec::new();
        for class in lineage.iter().rev() {
            for (kind, name) in &class.fields {
                let value = match kind {
                    b'B' | b'Z' => self.skip(1)?,
                    b'C' | b'S' => self.skip(2)?,
                    b'F' | b'I' => self.skip(4)?,
                    b'D' | b'J' => self.skip(8)?,
                    b'[' | b'L' => self.content(depth + 1)?,
                    _ => return Err(bad("field of a Java object")),
                };
                fields.push((name.clone(), value));
            }
        }
        if depth == 0 {
            self.object = Some(JavaObject {
                class: class.name.clone(),
                fields,
            });
        }
        Ok(Value::Other)
    }

    fn skip(&mut self, bytes: usize) -> Result<Value<'f>, KeystoreError> {
        self.input.take(bytes)?;
        Ok(Value::Other)
    }
}

fn bad(what: &'static str) -> KeystoreError {
    KeystoreError::Damaged { what }
}
