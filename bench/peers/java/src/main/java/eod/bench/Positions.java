package eod.bench;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import java.math.BigInteger;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Flash P&amp;L as one would build it with Kafka Streams: positions by weighted average cost in a state store, changes to a topic.
 *
 * <p>The topic of trades is keyed by symbol, so no repartitioning is needed. The store is in memory, cached, with a changelog; the guarantee is at-least-once,
 * and no trade is told from its repetition: ours promises more. Changed positions are written once an interval, or at once if that is 0.
 */
public final class Positions {
    private static final String STORE = "positions";

    private Positions() {}

    /** A position in exact integers: quantity in 1e-8, money in 1e-16. */
    static final class Position {
        private long quantity;
        private BigInteger cost = BigInteger.ZERO;
        private BigInteger realized = BigInteger.ZERO;
        private long trades;

        void trade(long traded, long px) {
            trades++;
            long held = quantity;
            quantity = Math.addExact(held, traded);
            BigInteger value = BigInteger.valueOf(traded).multiply(BigInteger.valueOf(px));
            if (held == 0 || held > 0 == traded > 0) {
                cost = cost.add(value);
            } else if (quantity != 0 && quantity > 0 == held > 0) {
                BigInteger share =
                        cost.multiply(BigInteger.valueOf(Math.abs(traded))).divide(BigInteger.valueOf(Math.abs(held)));
                realized = realized.subtract(value).subtract(share);
                cost = cost.subtract(share);
            } else {
                realized = realized.add(BigInteger.valueOf(held).multiply(BigInteger.valueOf(px))).subtract(cost);
                cost = BigInteger.valueOf(quantity).multiply(BigInteger.valueOf(px));
            }
        }

        byte[] bytes() {
            return Holding.newBuilder()
                    .setQuantityE8(quantity)
                    .setCostE16(ByteString.copyFrom(cost.toByteArray()))
                    .setRealizedE16(ByteString.copyFrom(realized.toByteArray()))
                    .setTrades(trades)
                    .build()
                    .toByteArray();
        }

        static Position of(byte[] bytes) {
            try {
                Holding holding = Holding.parseFrom(bytes);
                Position position = new Position();
                position.quantity = holding.getQuantityE8();
                position.cost = new BigInteger(holding.getCostE16().toByteArray());
                position.realized = new BigInteger(holding.getRealizedE16().toByteArray());
                position.trades = holding.getTrades();
                return position;
            } catch (InvalidProtocolBufferException error) {
                throw new SerializationException(error);
            }
        }
    }

    private static final class Book implements Processor<String, Execution, String, Position> {
        private final long intervalMs;
        private final Map<String, Position> changed = new LinkedHashMap<>();
        private ProcessorContext<String, Position> context;
        private KeyValueStore<String, Position> store;

        Book(long intervalMs) {
            this.intervalMs = intervalMs;
        }

        @Override
        public void init(ProcessorContext<String, Position> given) {
            context = given;
            store = given.getStateStore(STORE);
            if (intervalMs > 0) {
                given.schedule(Duration.ofMillis(intervalMs), PunctuationType.WALL_CLOCK_TIME, this::forward);
            }
        }

        @Override
        public void process(Record<String, Execution> record) {
            Execution execution = record.value();
            String key = execution.getTrader() + "/" + execution.getSymbol();
            Position position = store.get(key);
            if (position == null) {
                position = new Position();
            }
            position.trade(execution.getQuantityE8(), execution.getPxE8());
            store.put(key, position);
            if (intervalMs > 0) {
                changed.put(key, position);
            } else {
                context.forward(record.withKey(key).withValue(position));
            }
        }

        private void forward(long nowMs) {
            changed.forEach((key, position) -> context.forward(new Record<>(key, position, nowMs)));
            changed.clear();
        }
    }

    /** Arguments: bootstrap servers, application id, topic of trades, topic of positions, threads, interval in ms, state directory. */
    public static void main(String[] arguments) throws Exception {
        long intervalMs = Long.parseLong(arguments[5]);
        KafkaStreams streams = new KafkaStreams(topology(arguments[2], arguments[3], intervalMs), settings(arguments, intervalMs));
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
                });
        streams.setStateListener(
                (now, before) -> {
                    if (now == KafkaStreams.State.RUNNING) {
                        System.out.println("READY");
                    } else if (now == KafkaStreams.State.ERROR) {
                        Runtime.getRuntime().halt(1);
                    }
                });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        Thread.currentThread().join();
    }

    private static Topology topology(String trades, String positions, long intervalMs) {
        Serde<Position> position = Serdes.serdeFrom((topic, value) -> value.bytes(), (topic, bytes) -> bytes == null ? null : Position.of(bytes));
        Topology topology = new Topology();
        topology.addSource("trades", Serdes.String().deserializer(), (topic, bytes) -> execution(bytes), trades);
        topology.addProcessor("book", () -> new Book(intervalMs), "trades");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(STORE), Serdes.String(), position)
                        .withCachingEnabled()
                        .withLoggingEnabled(Map.of()),
                "book");
        topology.addSink("out", positions, Serdes.String().serializer(), position.serializer(), "book");
        return topology;
    }

    private static Execution execution(byte[] bytes) {
        try {
            return Execution.parseFrom(bytes);
        } catch (InvalidProtocolBufferException error) {
            throw new SerializationException(error);
        }
    }

    private static Properties settings(String[] arguments, long intervalMs) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[4]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 128L * 1024 * 1024);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        settings.put(StreamsConfig.POLL_MS_CONFIG, Math.max(1, Math.min(100, intervalMs)));
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        // The benchmark freezes the process while it fills the topic.
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 300_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_INTERVAL_MS_CONFIG), 600_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG), "true");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), intervalMs > 0 ? 5 : 1);
        return settings;
    }
}
