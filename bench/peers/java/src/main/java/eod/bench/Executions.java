package eod.bench;

import java.time.LocalDateTime;
import java.time.ZoneOffset;
import quickfix.FieldNotFound;
import quickfix.Group;
import quickfix.Message;

/** An ExecutionReport as QuickFIX/J hands it to an application, turned into the record that goes to Kafka. */
final class Executions {
    private static final int PARTIES = 453;
    private static final int EXECUTING_TRADER = 12;
    private static final int E8 = 8;
    private static final long NANOS = 1_000_000_000L;

    private Executions() {}

    /** The trade of a report; null if it is none. */
    static Execution of(String session, Message message) throws FieldNotFound {
        if (!"8".equals(message.getHeader().getString(35)) || message.getChar(150) != 'F') {
            return null;
        }
        long quantity = e8(message, 32);
        LocalDateTime at = message.getUtcTimeStamp(60);
        return Execution.newBuilder()
                .setSession(session)
                .setMsgSeqNum(message.getHeader().getInt(34))
                .setExecId(message.getString(17))
                .setSymbol(message.getString(55))
                .setTrader(trader(message))
                .setStrategy(message.isSetField(6061) ? message.getString(6061) : "")
                .setAccount(message.isSetField(1) ? message.getString(1) : "")
                .setQuantityE8(message.getChar(54) == '1' ? quantity : -quantity)
                .setPxE8(e8(message, 31))
                .setTransactTimeNs(at.toEpochSecond(ZoneOffset.UTC) * NANOS + at.getNano())
                .build();
    }

    private static long e8(Message message, int tag) throws FieldNotFound {
        return message.getDecimal(tag).movePointRight(E8).longValueExact();
    }

    private static String trader(Message message) throws FieldNotFound {
        for (Group party : message.getGroups(PARTIES)) {
            if (party.getInt(452) == EXECUTING_TRADER) {
                return party.getString(448);
            }
        }
        return "";
    }
}
