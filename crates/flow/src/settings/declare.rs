//! The macros that declare config structs and choices.

/// Declares a config struct: for each key its docs, name, type and default, once.
///
/// ```
/// use flafka_flow::settings;
/// use flafka_flow::settings::{Count, Millis, Port, Prefixed, Report, Section, Settings};
///
/// settings! {
///     /// An example component.
///     pub struct ExampleConfig {
///         /// Listen port.
///         "port" => port: Port,
///         /// Events in one transaction.
///         "batchSize" | "batch-size" => batch_size: Count = Count(100),
///         /// Where to send; none = nowhere.
///         "target" => target: Option<String>,
///         /// Passed to the client.
///         "client.*" => client: Prefixed,
///     }
///     moot { "threads": "threads are not configured here: the runtime has one a core" }
///     check(|config: &ExampleConfig, reader: &mut settings::Reader<'_>| {
///         if config.batch_size.0 > 10_000 { reader.warning("batchSize", "more than 10000 events a batch"); }
///     })
/// }
///
/// let mut report = Report::new();
/// let section = Section::of("a1.sources.r1", [("port", "4141"), ("client.a", "b"), ("threads", "5")]);
/// let config = ExampleConfig::from_section(&section, &mut report).expect("valid");
/// assert_eq!((config.port, config.batch_size.0), (Port(4141), 100));
/// assert_eq!(config.client.get("a"), Some("b"));
/// assert_eq!(report.problems().len(), 1, "threads is noted: {report:?}");
/// assert_eq!(ExampleConfig::fields().len(), 5);
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $docs:literal])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $field_docs:literal])*
                $key:literal $(| $alias:literal)* => $field:ident: $type:ty $(= $default:expr)? $(; note $note:literal)?
            ),* $(,)?
        }
        $(moot { $($moot:literal: $reason:literal),* $(,)? })?
        $(check($check:expr))?
    ) => {
        $(#[doc = $docs])*
        #[derive(Debug, Clone)]
        $visibility struct $name {
            $(
                $(#[doc = $field_docs])*
                pub $field: $type,
            )*
        }

        impl $crate::settings::Settings for $name {
            const DOCS: &'static [&'static str] = &[$($docs),*];

            fn fields() -> Vec<$crate::settings::Field> {
                vec![
                    $($crate::settings::Field {
                        key: $key,
                        aliases: &[$($alias),*],
                        docs: $crate::settings::join_docs(&[$($field_docs),*]),
                        kind: <$type as $crate::settings::Setting>::kind(),
                        default: <$type as $crate::settings::Setting>::describe_default(
                            $crate::settings!(@default $type $(, $default)?).as_ref(),
                        ),
                        note: $crate::settings!(@note $($note)?),
                    },)*
                    $($($crate::settings::Field {
                        key: $moot,
                        aliases: &[],
                        docs: $crate::settings::join_docs(&[$reason]),
                        kind: "accepted, without effect".to_owned(),
                        default: $crate::settings::Absent::None,
                        note: Some($reason),
                    },)*)?
                ]
            }

            fn read(reader: &mut $crate::settings::Reader<'_>) -> Option<Self> {
                let fields = <Self as $crate::settings::Settings>::fields();
                let mut fields = fields.iter();
                $(
                    let $field: Option<$type> = reader.field(
                        fields.next().expect("fields() lists every field"),
                        $crate::settings!(@default $type $(, $default)?),
                    );
                )*
                for moot in fields {
                    reader.moot(moot);
                }
                let config = Self { $($field: $field?,)* };
                $(
                    let check: fn(&$name, &mut $crate::settings::Reader<'_>) = $check;
                    check(&config, reader);
                )?
                if reader.has_failed() { None } else { Some(config) }
            }
        }
    };
    (@default $type:ty, $default:expr) => { Some::<$type>($default) };
    (@default $type:ty) => { None::<$type> };
    (@note $note:literal) => { Some($note) };
    (@note) => { None };
}

/// Declares an enum of words that a setting can be; compared without case.
#[macro_export]
macro_rules! choice {
    (
        $(#[doc = $docs:literal])*
        $visibility:vis enum $name:ident {
            $($(#[doc = $variant_docs:literal])* $variant:ident = $word:literal $(| $other:literal)*),* $(,)?
        }
    ) => {
        $(#[doc = $docs])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visibility enum $name { $($(#[doc = $variant_docs])* $variant,)* }

        impl $crate::settings::Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant), $(($other, Self::$variant),)*)*];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl $crate::settings::Setting for $name {
            fn parse(text: &str) -> Result<Self, $crate::settings::BadValue> {
                $crate::settings::parse_choice(text)
            }

            fn kind() -> String {
                $crate::settings::choice_kind::<Self>()
            }

            fn show(&self) -> Option<String> {
                Some($crate::settings::Choice::word(*self).to_owned())
            }
        }
    };
}

/// Joins the lines of a doc comment into one text.
pub fn join_docs(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    lines.join("\n").trim().to_owned()
}
