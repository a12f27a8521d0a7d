package eod.peers;

import java.io.ByteArrayInputStream;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Set;
import quickfix.ApplicationAdapter;
import quickfix.DefaultMessageFactory;
import quickfix.FieldNotFound;
import quickfix.LogFactory;
import quickfix.MemoryStoreFactory;
import quickfix.Message;
import quickfix.Session;
import quickfix.SessionID;
import quickfix.SessionNotFound;
import quickfix.SessionSettings;
import quickfix.SocketAcceptor;
import quickfix.UnsupportedMessageType;

/**
 * An acceptor of QuickFIX/J that does what {@code eod fix echo} does: the two are given the same messages and must say the same.
 *
 * <p>Arguments: sessions as {@code FIX.4.4:OURS->THEIRS}. Prints the port, and ends with its standard input.
 */
public final class Echo {
    private static final Set<String> RETURNED = Set.of("D", "d", "C");

    private Echo() {}

    private static final class Application extends ApplicationAdapter {
        private final Set<String> orders = new HashSet<>();

        @Override
        public synchronized void onLogon(SessionID session) {
            orders.clear();
        }

        @Override
        public synchronized void fromApp(Message message, SessionID session) throws UnsupportedMessageType, FieldNotFound {
            String type = message.getHeader().getString(35);
            if (!RETURNED.contains(type)) {
                throw new UnsupportedMessageType();
            }
            if (message.isSetField(11)) {
                boolean resent = message.getHeader().isSetField(97) && message.getHeader().getBoolean(97);
                if (!orders.add(message.getString(11)) && resent) {
                    return;
                }
            }
            Message echo = new Message();
            echo.getHeader().setString(35, type);
            echo.setFields(message);
            echo.setGroups(message);
            try {
                Session.sendToTarget(echo, session);
            } catch (SessionNotFound gone) {
                throw new IllegalStateException(gone);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        int port;
        try (ServerSocket free = new ServerSocket(0)) {
            port = free.getLocalPort();
        }
        StringBuilder text = new StringBuilder("[DEFAULT]\nConnectionType=acceptor\nSocketAcceptHost=127.0.0.1\nSocketAcceptPort=" + port
            + "\nStartTime=00:00:00\nEndTime=00:00:00\nResetOnLogon=Y\nUseDataDictionary=Y\nValidateUserDefinedFields=Y\n");
        for (String name : arguments) {
            String version = name.substring(0, name.indexOf(':'));
            String[] sides = name.substring(name.indexOf(':') + 1).split("->");
            text.append("[SESSION]\nBeginString=").append(version).append("\nSenderCompID=").append(sides[0]).append("\nTargetCompID=")
                .append(sides[1]).append("\nDataDictionary=").append(version.replace(".", "")).append(".xml\n");
        }
        SessionSettings settings = new SessionSettings(new ByteArrayInputStream(text.toString().getBytes(StandardCharsets.UTF_8)));
        LogFactory silent = session -> new quickfix.SLF4JLogFactory(settings).create(session);
        SocketAcceptor acceptor =
            new SocketAcceptor(new Application(), new MemoryStoreFactory(), settings, silent, new DefaultMessageFactory());
        acceptor.start();
        System.out.println(port);
        while (System.in.read() >= 0) {
            continue;
        }
        acceptor.stop(true);
    }
}
