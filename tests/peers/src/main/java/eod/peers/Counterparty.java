package eod.peers;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import quickfix.ApplicationAdapter;
import quickfix.DefaultMessageFactory;
import quickfix.FileStoreFactory;
import quickfix.Group;
import quickfix.Log;
import quickfix.LogFactory;
import quickfix.Message;
import quickfix.Session;
import quickfix.SessionID;
import quickfix.SessionSettings;
import quickfix.SocketInitiator;

/**
 * Sends the ExecutionReports of a table to a FIX 4.4 acceptor, through whatever happens to the acceptor meanwhile.
 *
 * <p>Sequence numbers and messages are kept in files, so that every ResendRequest can be answered. Sending goes on while the acceptor is away: QuickFIX/J
 * numbers and keeps the messages, and the acceptor asks for them later. The program ends when the file {@code stop} appears in its folder, because only who
 * looks into the acceptor's stores knows that nothing is missing. The length of the file {@code sent} is the number of reports sent so far.
 */
public final class Counterparty {
    private static final int COLUMNS = 11;
    private static final long TURN_MS = 5;
    private static final long STOP_POLL_MS = 50;

    private Counterparty() {}

    /** One line of the table: SenderCompID and the fields that differ between reports. */
    private record Report(SessionID session, String[] cells) {
        /** Columns behind the SenderCompID, as FIX tags; an empty cell leaves the tag out. */
        private static final int[] TAGS = {17, 19, 150, 55, 54, 32, 31};

        Message message() {
            Message message = new Message();
            message.getHeader().setString(35, "8");
            for (int i = 0; i < TAGS.length; i++) {
                set(message, TAGS[i], cells[i + 1]);
            }
            set(message, 60, cells[10]);
            set(message, 6061, cells[9]);
            message.setString(37, "O-" + cells[1]);
            message.setString(39, "0".equals(cells[3]) ? "0" : "2");
            message.setString(151, "0");
            message.setString(14, cells[6].isEmpty() ? "0" : cells[6]);
            message.setString(6, cells[7].isEmpty() ? "0" : cells[7]);
            Group party = new Group(453, 448, new int[] {448, 447, 452});
            party.setString(448, cells[8]);
            party.setString(447, "D");
            party.setString(452, "12");
            message.addGroup(party);
            return message;
        }

        private static void set(Message message, int tag, String value) {
            if (!value.isEmpty()) {
                message.setString(tag, value);
            }
        }
    }

    /** Every frame as it is handed to the socket, one a line; a frame that the acceptor never got is in here too. */
    private static final class Frames implements Log {
        private final OutputStream outgoing;
        private final OutputStream incoming;
        private final String name;

        Frames(Path folder, SessionID session) throws IOException {
            name = session.getSenderCompID();
            outgoing = Files.newOutputStream(folder.resolve("outgoing-" + name));
            incoming = Files.newOutputStream(folder.resolve("incoming-" + name));
        }

        private static void write(OutputStream file, String message) {
            try {
                file.write((message + "\n").getBytes(StandardCharsets.ISO_8859_1));
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
        }

        @Override
        public synchronized void onOutgoing(String message) {
            write(outgoing, message);
        }

        @Override
        public synchronized void onIncoming(String message) {
            write(incoming, message);
        }

        @Override
        public void onEvent(String text) {
            System.out.println(name + ": " + text);
        }

        @Override
        public void onErrorEvent(String text) {
            System.out.println(name + ": error: " + text);
        }

        @Override
        public void clear() {}
    }

    /** Arguments: host, port, TargetCompID, table, folder, reports per second. */
    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[4]);
        List<Report> reports = new ArrayList<>();
        Set<SessionID> sessions = new LinkedHashSet<>();
        for (String line : Files.readAllLines(Path.of(arguments[3]), StandardCharsets.ISO_8859_1)) {
            String[] cells = line.split("\t", -1);
            if (cells.length != COLUMNS) {
                throw new IllegalArgumentException(cells.length + " columns, not " + COLUMNS + ": " + line);
            }
            SessionID session = new SessionID("FIX.4.4", cells[0], arguments[2]);
            sessions.add(session);
            reports.add(new Report(session, cells));
        }
        CountDownLatch loggedOn = new CountDownLatch(sessions.size());
        LogFactory frames =
                session -> {
                    try {
                        return new Frames(folder, session);
                    } catch (IOException error) {
                        throw new IllegalStateException(error);
                    }
                };
        SessionSettings settings = settings(arguments[0], arguments[1], folder, sessions);
        SocketInitiator initiator =
                new SocketInitiator(
                        new ApplicationAdapter() {
                            @Override
                            public void onLogon(SessionID session) {
                                loggedOn.countDown();
                            }
                        },
                        new FileStoreFactory(settings),
                        settings,
                        frames,
                        new DefaultMessageFactory());
        initiator.start();
        loggedOn.await();
        try (OutputStream progress = Files.newOutputStream(folder.resolve("sent"))) {
            send(reports, Double.parseDouble(arguments[5]), progress);
        }
        System.out.println("all " + reports.size() + " reports were sent");
        while (!Files.exists(folder.resolve("stop"))) {
            Thread.sleep(STOP_POLL_MS);
        }
        initiator.stop();
        System.out.println("logged out");
    }

    private static void send(List<Report> reports, double perSecond, OutputStream progress) throws Exception {
        long begun = System.nanoTime();
        int sent = 0;
        while (sent < reports.size()) {
            double due = (System.nanoTime() - begun) / 1e9 * perSecond;
            while (sent < reports.size() && sent < due) {
                Report report = reports.get(sent++);
                Session.sendToTarget(report.message(), report.session());
                progress.write('.');
            }
            Thread.sleep(TURN_MS);
        }
    }

    private static SessionSettings settings(String host, String port, Path folder, Set<SessionID> sessions) {
        SessionSettings settings = new SessionSettings();
        settings.setString("ConnectionType", "initiator");
        settings.setString("SocketConnectHost", host);
        settings.setString("SocketConnectPort", port);
        settings.setString("ReconnectInterval", "1");
        settings.setString("HeartBtInt", "5");
        settings.setString("LogonTimeout", "5");
        settings.setString("NonStopSession", "Y");
        settings.setString("FileStorePath", folder.resolve("store").toString());
        settings.setString("UseDataDictionary", "Y");
        settings.setString("DataDictionary", "FIX44.xml");
        settings.setString("ValidateUserDefinedFields", "N");
        for (SessionID session : sessions) {
            settings.setString(session, "BeginString", session.getBeginString());
            settings.setString(session, "SenderCompID", session.getSenderCompID());
            settings.setString(session, "TargetCompID", session.getTargetCompID());
        }
        return settings;
    }
}
