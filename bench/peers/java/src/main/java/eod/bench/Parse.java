package eod.bench;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.mina.core.buffer.IoBuffer;
import org.apache.mina.core.session.DummySession;
import org.apache.mina.core.session.IoSession;
import org.apache.mina.filter.codec.ProtocolDecoderOutput;
import org.apache.mina.filter.codec.demux.MessageDecoderResult;
import quickfix.DataDictionary;
import quickfix.DefaultMessageFactory;
import quickfix.Message;
import quickfix.MessageFactory;
import quickfix.MessageUtils;
import quickfix.mina.message.FIXMessageDecoder;

/**
 * How many frames a second of CPU time QuickFIX/J makes executions of: cut, checked against checksum and dictionary, fields read.
 *
 * <p>CPU time is that of the whole process, the garbage collector's included, behind warm-up passes that let the compiler finish.
 */
public final class Parse {
    private static final int READ_BYTES = 64 * 1024;

    private Parse() {}

    /** Takes whole messages from the decoder, as QuickFIX/J's own handler would. */
    private static final class Checked implements ProtocolDecoderOutput {
        private final DataDictionary dictionary;
        private final MessageFactory factory = new DefaultMessageFactory();
        private long trades;
        private long sum;

        Checked(DataDictionary dictionary) {
            this.dictionary = dictionary;
        }

        @Override
        public void write(Object text) {
            try {
                Message message = MessageUtils.parse(factory, dictionary, (String) text);
                dictionary.validate(message);
                Execution execution = Executions.of("S", message);
                if (execution != null) {
                    trades++;
                    sum += execution.getQuantityE8();
                }
            } catch (Exception error) {
                throw new IllegalStateException((String) text, error);
            }
        }

        @Override
        public void flush(org.apache.mina.core.filterchain.IoFilter.NextFilter next, IoSession session) {}
    }

    /** Arguments: file of frames, warm-up passes, measured passes. Prints the number of trades their quantity and the nanoseconds, a line a measured pass. */
    public static void main(String[] arguments) throws Exception {
        byte[] wire = Files.readAllBytes(Path.of(arguments[0]));
        DataDictionary dictionary = new DataDictionary("FIX44.xml");
        dictionary.setCheckUserDefinedFields(false);
        int warm = Integer.parseInt(arguments[1]);
        int runs = Integer.parseInt(arguments[2]);
        OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        for (int pass = 0; pass < warm + runs; pass++) {
            long before = system.getProcessCpuTime();
            Checked checked = pass(wire, dictionary);
            long taken = system.getProcessCpuTime() - before;
            if (pass >= warm) {
                System.out.println(checked.trades + " " + checked.sum + " " + taken);
            }
        }
    }

    private static Checked pass(byte[] wire, DataDictionary dictionary) throws Exception {
        Checked checked = new Checked(dictionary);
        IoSession session = new DummySession();
        FIXMessageDecoder decoder = new FIXMessageDecoder();
        int end;
        for (int at = 0; at < wire.length; at = end) {
            end = boundary(wire, at);
            IoBuffer buffer = IoBuffer.wrap(wire, at, end - at).slice();
            while (buffer.hasRemaining()) {
                if (decoder.decode(session, buffer, checked) != MessageDecoderResult.OK) {
                    throw new IllegalStateException("a frame in front of byte " + end + " is not whole");
                }
            }
        }
        return checked;
    }

    /** Where the last whole frame of a read ends: the decoder is spared the putting together of halves. */
    private static int boundary(byte[] wire, int at) {
        if (at + READ_BYTES >= wire.length) {
            return wire.length;
        }
        int end = at + READ_BYTES;
        while (wire[end - 1] != 1 || wire[end] != '8' || wire[end + 1] != '=') {
            end--;
        }
        return end;
    }
}
