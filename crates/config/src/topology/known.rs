//! The types that Flume 1.11 (and 1.9, where they are gone since) knows, so that those we do not
//! have can be told from typing errors.

use super::resolve::TypeKind;

/// A type of Flume: what it is, its alias (empty when it has none), its class.
pub(super) struct Known {
    pub(super) kind: TypeKind,
    pub(super) alias: &'static str,
    pub(super) class: &'static str,
}

macro_rules! known {
    ($($kind:ident { $($alias:literal $class:literal),* $(,)? })*) => {
        &[$($(Known { kind: TypeKind::$kind, alias: $alias, class: $class },)*)*]
    };
}

/// All of them.
pub(super) const KNOWN: &[Known] = known! {
    Source {
        "avro" "org.apache.flume.source.AvroSource",
        "exec" "org.apache.flume.source.ExecSource",
        "http" "org.apache.flume.source.http.HTTPSource",
        "jms" "org.apache.flume.source.jms.JMSSource",
        "multiport_syslogtcp" "org.apache.flume.source.MultiportSyslogTCPSource",
        "netcat" "org.apache.flume.source.NetcatSource",
        "netcatudp" "org.apache.flume.source.NetcatUdpSource",
        "seq" "org.apache.flume.source.SequenceGeneratorSource",
        "spooldir" "org.apache.flume.source.SpoolDirectorySource",
        "syslogtcp" "org.apache.flume.source.SyslogTcpSource",
        "syslogudp" "org.apache.flume.source.SyslogUDPSource",
        "taildir" "org.apache.flume.source.taildir.TaildirSource",
        "thrift" "org.apache.flume.source.ThriftSource",
        "" "org.apache.flume.source.kafka.KafkaSource",
        "" "org.apache.flume.source.StressSource",
        "" "org.apache.flume.source.scribe.ScribeSource",
        "" "org.apache.flume.source.twitter.TwitterSource",
        "" "org.apache.flume.source.avroLegacy.AvroLegacySource",
        "" "org.apache.flume.source.thriftLegacy.ThriftLegacySource",
    }
    Channel {
        "file" "org.apache.flume.channel.file.FileChannel",
        "jdbc" "org.apache.flume.channel.jdbc.JdbcChannel",
        "memory" "org.apache.flume.channel.MemoryChannel",
        "spillablememory" "org.apache.flume.channel.SpillableMemoryChannel",
        "" "org.apache.flume.channel.kafka.KafkaChannel",
        "" "org.apache.flume.channel.PseudoTxnMemoryChannel",
    }
    Sink {
        "asynchbase" "org.apache.flume.sink.hbase.AsyncHBaseSink",
        "avro" "org.apache.flume.sink.AvroSink",
        "elasticsearch" "org.apache.flume.sink.elasticsearch.ElasticSearchSink",
        "file_roll" "org.apache.flume.sink.RollingFileSink",
        "hbase" "org.apache.flume.sink.hbase.HBaseSink",
        "hbase2" "org.apache.flume.sink.hbase2.HBase2Sink",
        "hdfs" "org.apache.flume.sink.hdfs.HDFSEventSink",
        "hive" "org.apache.flume.sink.hive.HiveSink",
        "http" "org.apache.flume.sink.http.HttpSink",
        "irc" "org.apache.flume.sink.irc.IRCSink",
        "logger" "org.apache.flume.sink.LoggerSink",
        "morphline_solr" "org.apache.flume.sink.solr.morphline.MorphlineSolrSink",
        "null" "org.apache.flume.sink.NullSink",
        "thrift" "org.apache.flume.sink.ThriftSink",
        "" "org.apache.flume.sink.kafka.KafkaSink",
        "" "org.apache.flume.sink.kite.DatasetSink",
        "" "org.apache.flume.sink.kudu.KuduSink",
    }
    Interceptor {
        "host" "org.apache.flume.interceptor.HostInterceptor$Builder",
        "regex_extractor" "org.apache.flume.interceptor.RegexExtractorInterceptor$Builder",
        "regex_filter" "org.apache.flume.interceptor.RegexFilteringInterceptor$Builder",
        "remove_header" "org.apache.flume.interceptor.RemoveHeaderInterceptor$Builder",
        "search_replace" "org.apache.flume.interceptor.SearchAndReplaceInterceptor$Builder",
        "static" "org.apache.flume.interceptor.StaticInterceptor$Builder",
        "timestamp" "org.apache.flume.interceptor.TimestampInterceptor$Builder",
        "" "org.apache.flume.sink.solr.morphline.MorphlineInterceptor$Builder",
        "" "org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder",
    }
    Selector {
        "load_balancing" "org.apache.flume.channel.LoadBalancingChannelSelector",
        "multiplexing" "org.apache.flume.channel.MultiplexingChannelSelector",
        "replicating" "org.apache.flume.channel.ReplicatingChannelSelector",
    }
    SinkProcessor {
        "default" "org.apache.flume.sink.DefaultSinkProcessor",
        "failover" "org.apache.flume.sink.FailoverSinkProcessor",
        "load_balance" "org.apache.flume.sink.LoadBalancingSinkProcessor",
    }
};

/// The entry that `word` names, by alias or class, without regard to case.
pub(super) fn find(kind: TypeKind, word: &str) -> Option<&'static Known> {
    let names = |known: &&Known| {
        known.kind == kind
            && (known.class.eq_ignore_ascii_case(word)
                || (!known.alias.is_empty() && known.alias.eq_ignore_ascii_case(word)))
    };
    KNOWN.iter().find(names)
}
