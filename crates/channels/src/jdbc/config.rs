//! Settings of the JDBC channel: Flume's keys, and what each means on an SQLite file.

use std::path::{Path, PathBuf};

use flafka_flow::Promise;
use flafka_flow::settings::{Count, Prefixed, Reader, Secret};

use super::place::{self, Place};

flafka_flow::choice! {
    /// `db.type`.
    pub enum DatabaseType {
        /// Embedded Derby; here an SQLite file takes its place.
        Derby = "DERBY",
        /// A MySQL server.
        Mysql = "MYSQL",
        /// What this channel has.
        Sqlite = "SQLITE",
    }
}

flafka_flow::choice! {
    /// `transaction.isolation`.
    pub enum Isolation {
        /// JDBC's word.
        ReadUncommitted = "READ_UNCOMMITTED",
        /// JDBC's word.
        ReadCommitted = "READ_COMMITTED",
        /// JDBC's word.
        RepeatableRead = "REPEATABLE_READ",
        /// JDBC's word.
        Serializable = "SERIALIZABLE",
    }
}

flafka_flow::settings! {
    /// Keeps events in an SQLite file: a put is acknowledged after a commit that the disk has, nothing acknowledged is lost
    /// when the process or the machine dies. For configurations that have Flume's JDBC channel, whose embedded Derby this
    /// takes the place of; database servers are refused, and a Derby database is not read. New configurations fare better
    /// with the file channel, which is faster, bounded in bytes and can be encrypted.
    pub struct JdbcChannelConfig {
        /// Where the events are. `jdbc:sqlite:<file>` names the file; `jdbc:derby:<folder>` means `<folder>/flafka/<channel>.sqlite`,
        /// and is refused while that folder holds a Derby database. Any other URL is refused. Default, as in Flume:
        /// `jdbc:derby:~/.flume/jdbc-channel/db`.
        "driver.url" | "org.apache.flume.channel.jdbc.driver.url" => url: Option<String>,
        /// `DERBY` or `SQLITE` mean the same here; `MYSQL` with a URL is refused.
        "db.type" | "org.apache.flume.channel.jdbc.db.type" => database_type: Option<DatabaseType>,
        /// Events that the channel holds at most, those in open leases included; a put that does not fit fails at once. 0:
        /// no limit but the disk.
        "maximum.capacity" | "org.apache.flume.channel.jdbc.maximum.capacity" => maximum_capacity: u64 = 0,
        /// Make the table when the file has none. With false a file without it is an error.
        "create.schema" | "org.apache.flume.channel.jdbc.create.schema" => create_schema: bool = true,
        /// `user.home` is where the default path begins, and a relative `jdbc:derby:` path is below `derby.system.home`.
        "sysprop.*" => system_properties: Prefixed,
        /// The old spelling of `sysprop.*`.
        "org.apache.flume.channel.jdbc.sysprop.*" => old_system_properties: Prefixed,
        /// The Java driver.
        "driver.class" | "org.apache.flume.channel.jdbc.driver.class" => driver_class: Option<String>; note "no Java driver is loaded: SQLite is built in",
        /// User of the database.
        "db.username" | "org.apache.flume.channel.jdbc.db.username" => username: Option<String>; note "an SQLite file has no users: its file permissions protect it",
        /// Password of the user.
        "db.password" | "org.apache.flume.channel.jdbc.db.password" => password: Option<Secret>; note "an SQLite file has no users: its file permissions protect it",
        /// Properties of the Java driver.
        "connection.properties.file" | "org.apache.flume.channel.jdbc.connection.properties.file" => connection_properties: Option<PathBuf>; note "there is no Java driver to give properties to; the file is not read",
        /// Make the indices of Flume's tables.
        "create.index" | "org.apache.flume.channel.jdbc.create.index" => create_index: bool = true; note "events are found by their number, the table's own key: there is no other index",
        /// Make the foreign keys of Flume's tables.
        "create.foreignkey" | "org.apache.flume.channel.jdbc.create.foreignkey" => create_foreign_key: bool = true; note "an event is one row of one table: there is nothing to refer to",
        /// Isolation of transactions.
        "transaction.isolation" | "org.apache.flume.channel.jdbc.transaction.isolation" => isolation: Isolation = Isolation::ReadCommitted; note "transactions run one after the other, which is SERIALIZABLE",
        /// Connections of the pool.
        "maximum.connections" | "org.apache.flume.channel.jdbc.maximum.connections" => maximum_connections: Count = Count(10); note "there is one connection; puts that wait at the same time share a commit",
    }
    check(|config: &JdbcChannelConfig, reader: &mut Reader<'_>| {
        // Only whether the URL will do: where home is, and how the channel is called, is known at the start.
        if let Err(refused) = config.place(Path::new("/"), "c") {
            let key = match config.url {
                Some(_) => "driver.url",
                None => "sysprop.user.home",
            };
            reader.error(key, refused.message, Some(refused.allowed));
        }
        if config.database_type == Some(DatabaseType::Mysql) {
            let allowed = Some("DERBY or SQLITE, or leave it out".to_owned());
            match &config.url {
                Some(_) => reader.error("db.type", "database servers are not supported by this channel", allowed),
                None => reader.note("db.type", "without driver.url the embedded database is used, as in Flume"),
            }
        }
        for prefix in ["sysprop.", "org.apache.flume.channel.jdbc.sysprop."] {
            let own = match prefix {
                "sysprop." => &config.system_properties,
                _ => &config.old_system_properties,
            };
            let unknown = |key: &&String| !matches!(key.as_str(), place::USER_HOME | place::DERBY_HOME);
            for key in own.0.keys().filter(unknown) {
                reader.note(&format!("{prefix}{key}"), "there is no Java machine to set a property of; only user.home and derby.system.home mean something");
            }
        }
    })
}

impl JdbcChannelConfig {
    /// What the channel promises, for `flafka explain`.
    pub(super) fn promise(&self, home: &Path) -> Promise {
        let capacity = self.maximum_capacity;
        let place = self.place(home, "c").ok();
        let folder = place.and_then(|place| place.file.parent().map(Path::to_owned));
        Promise {
            durability: "fsync (SQLite, synchronous = FULL)".to_owned(),
            acknowledged: "when a commit of the SQLite file is on the disk".to_owned(),
            kill_loses: "nothing".to_owned(),
            power_cut_loses: "nothing".to_owned(),
            repeats: "batches that a sink was delivering".to_owned(),
            capacity_events: (capacity > 0).then_some(capacity),
            capacity_bytes: None,
            when_full: match capacity {
                0 => "the disk is the limit: a put that has no room fails, and its source tries again",
                _ => "a put fails at once, and its source tries again",
            }
            .to_owned(),
            encrypted: None,
            directories: folder.into_iter().collect(),
        }
    }

    /// The file of the channel of this name; `home` is where the default path begins.
    pub(super) fn place(&self, home: &Path, channel: &str) -> Result<Place, place::Refused> {
        let property = |name: &str| {
            let (new, old) = (&self.system_properties, &self.old_system_properties);
            new.get(name).or_else(|| old.get(name)).map(Path::new)
        };
        place::of(self.url.as_deref(), property, home, channel)
    }
}
