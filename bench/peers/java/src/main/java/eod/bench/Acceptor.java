package eod.bench;

import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;
import quickfix.ApplicationAdapter;
import quickfix.DefaultMessageFactory;
import quickfix.FieldNotFound;
import quickfix.Log;
import quickfix.MemoryStoreFactory;
import quickfix.Message;
import quickfix.SessionID;
import quickfix.SessionSettings;
import quickfix.ThreadedSocketAcceptor;

/**
 * Ingestion as one would build it with QuickFIX/J: an acceptor that writes a record a trade.
 *
 * <p>Every message is checked against the dictionary. Sequence numbers stay in memory, and a message counts as received before Kafka has it: both promise less
 * than ours and cost less.
 */
public final class Acceptor {
    /** Messages that may wait for a session's thread; beyond that its socket is read no more. */
    private static final int MOST_WAITING = 16_384;

    private static final int FEWEST_WAITING = 4_096;

    private Acceptor() {}

    /** Puts executions on the topic, and ends the process when Kafka refuses one. */
    private static final class ToKafka extends ApplicationAdapter {
        private final KafkaProducer<String, byte[]> producer;
        private final String topic;

        ToKafka(KafkaProducer<String, byte[]> producer, String topic) {
            this.producer = producer;
            this.topic = topic;
        }

        @Override
        public void fromApp(Message message, SessionID session) throws FieldNotFound {
            String name = session.getTargetCompID() + "->" + session.getSenderCompID();
            Execution execution = Executions.of(name, message);
            if (execution != null) {
                producer.send(
                        new ProducerRecord<>(topic, execution.getSymbol(), execution.toByteArray()),
                        (metadata, error) -> {
                            if (error != null) {
                                error.printStackTrace();
                                Runtime.getRuntime().halt(1);
                            }
                        });
            }
        }
    }

    /** QuickFIX/J's own default writes every message to the screen. */
    private static final class Quiet implements Log {
        @Override
        public void clear() {}

        @Override
        public void onIncoming(String message) {}

        @Override
        public void onOutgoing(String message) {}

        @Override
        public void onEvent(String text) {}

        @Override
        public void onErrorEvent(String text) {
            System.err.println(text);
        }
    }

    /** Arguments: bootstrap servers, topic, port, our CompID, the counterparties' CompIDs with commas, linger in ms. */
    public static void main(String[] arguments) throws Exception {
        Properties kafka = new Properties();
        kafka.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        kafka.put(ProducerConfig.ACKS_CONFIG, "all");
        kafka.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, "true");
        kafka.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, "lz4");
        kafka.put(ProducerConfig.LINGER_MS_CONFIG, arguments[5]);
        kafka.put(ProducerConfig.BATCH_SIZE_CONFIG, Integer.toString(256 * 1024));
        kafka.put(ProducerConfig.BUFFER_MEMORY_CONFIG, Long.toString(128L * 1024 * 1024));
        KafkaProducer<String, byte[]> producer =
                new KafkaProducer<>(kafka, new StringSerializer(), new ByteArraySerializer());
        producer.partitionsFor(arguments[1]);
        SessionSettings settings = settings(arguments[2], arguments[3], arguments[4].split(","));
        ThreadedSocketAcceptor acceptor =
                ThreadedSocketAcceptor.newBuilder()
                        .withApplication(new ToKafka(producer, arguments[1]))
                        .withMessageStoreFactory(new MemoryStoreFactory())
                        .withSettings(settings)
                        .withLogFactory(session -> new Quiet())
                        .withMessageFactory(new DefaultMessageFactory())
                        .withQueueWatermarks(FEWEST_WAITING, MOST_WAITING)
                        .build();
        acceptor.start();
        System.out.println("READY");
        Thread.currentThread().join();
    }

    private static SessionSettings settings(String port, String ours, String[] theirs) {
        SessionSettings settings = new SessionSettings();
        settings.setString("ConnectionType", "acceptor");
        settings.setString("SocketAcceptAddress", "127.0.0.1");
        settings.setString("SocketAcceptPort", port);
        settings.setString("SocketTcpNoDelay", "Y");
        settings.setString("NonStopSession", "Y");
        settings.setString("UseDataDictionary", "Y");
        settings.setString("DataDictionary", "FIX44.xml");
        settings.setString("ValidateUserDefinedFields", "N");
        settings.setString("PersistMessages", "N");
        // Frames are rendered before the run, so their SendingTime is not of this moment.
        settings.setString("CheckLatency", "N");
        for (String other : theirs) {
            SessionID session = new SessionID("FIX.4.4", ours, other);
            settings.setString(session, "BeginString", "FIX.4.4");
            settings.setString(session, "SenderCompID", ours);
            settings.setString(session, "TargetCompID", other);
        }
        return settings;
    }
}
