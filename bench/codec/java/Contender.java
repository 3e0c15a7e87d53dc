// jPOS and j8583, to be asked as bench/codec/serving.py says.
//
//     java -cp JARS Contender.java (jPOS|j8583) FILE WARM_UP_SECONDS
//
// FILE is as bench/codec/contenders.py writes it. Both read and write the same bytes as
// the others, which is seen to before anything is timed. Each operation is repeated for
// the warm-up before `ready`, so that what is timed is compiled.

import com.solab.iso8583.IsoMessage;
import com.solab.iso8583.IsoType;
import com.solab.iso8583.MessageFactory;
import com.solab.iso8583.parse.FieldParseInfo;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import org.jpos.iso.IFA_LLCHAR;
import org.jpos.iso.IFA_LLLBINARY;
import org.jpos.iso.IFA_LLLCHAR;
import org.jpos.iso.IFA_NUMERIC;
import org.jpos.iso.IFB_BITMAP;
import org.jpos.iso.IF_CHAR;
import org.jpos.iso.ISOBasePackager;
import org.jpos.iso.ISOFieldPackager;
import org.jpos.iso.ISOMsg;

public class Contender {
    interface Operation {
        Object run() throws Exception;
    }

    record Field(String content, int length, int prefixDigits, String value) {}

    static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();
    static final int PROBE = 10;
    static Object sink;

    static byte[] data;
    static String mti;
    static String changed;
    static int[] read;
    static final Map<Integer, Field> fields = new TreeMap<>();
    static final Map<String, Operation> operations = new LinkedHashMap<>();

    public static void main(String[] arguments) throws Exception {
        readFile(Path.of(arguments[1]));
        String version = arguments[0].equals("jPOS") ? addJpos() : addJ8583();
        double warmUp = Double.parseDouble(arguments[2]);
        for (Operation operation : operations.values()) {
            nanoseconds(operation, warmUp);
        }
        String java = System.getProperty("java.version");
        System.out.println("ready " + version + " (Java " + java + ")");
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = requests.readLine()) != null; ) {
            String[] parts = line.split("\t");
            double seconds = Double.parseDouble(parts[2]);
            System.out.println(nanoseconds(operations.get(parts[1]), seconds));
        }
    }

    static void readFile(Path path) throws Exception {
        for (String line : Files.readAllLines(path)) {
            String[] parts = line.split("\t");
            switch (parts[0]) {
                case "data" -> data = HexFormat.of().parseHex(parts[1]);
                case "mti" -> mti = parts[1];
                case "changed" -> changed = parts[1];
                case "read" ->
                    read = Arrays.stream(parts[1].split(" "))
                        .mapToInt(Integer::parseInt).toArray();
                case "field" -> {
                    int length = Integer.parseInt(parts[3]);
                    int prefixDigits = Integer.parseInt(parts[4]);
                    Field field = new Field(parts[2], length, prefixDigits, parts[5]);
                    fields.put(Integer.parseInt(parts[1]), field);
                }
                default -> throw new IllegalArgumentException(line);
            }
        }
    }

    static double nanoseconds(Operation operation, double seconds) throws Exception {
        long count = 1;
        double spent;
        while ((spent = spentOn(operation, count)) < seconds / PROBE) {
            count *= 2;
        }
        count = Math.max(1, Math.round(count * seconds / spent));
        return spentOn(operation, count) / count * 1e9;
    }

    static double spentOn(Operation operation, long count) throws Exception {
        long start = THREADS.getCurrentThreadCpuTime();
        for (long index = 0; index < count; index++) {
            sink = operation.run();
        }
        return Math.max(1, THREADS.getCurrentThreadCpuTime() - start) / 1e9;
    }

    static void check(boolean same, String what) {
        if (!same) {
            throw new IllegalStateException("not the same: " + what);
        }
    }

    // Of the jar it is from: NAME-VERSION.jar.
    static String version(Class<?> of) throws Exception {
        URI jar = of.getProtectionDomain().getCodeSource().getLocation().toURI();
        String name = Path.of(jar).getFileName().toString();
        return name.substring(name.lastIndexOf('-') + 1, name.lastIndexOf('.'));
    }

    // -- jPOS ------------------------------------------------------------------------

    static ISOFieldPackager packager(Field field) {
        return switch (field.prefixDigits()) {
            case 0 -> field.content().equals("n")
                ? new IFA_NUMERIC(field.length(), "")
                : new IF_CHAR(field.length(), "");
            case 2 -> new IFA_LLCHAR(field.length(), "");
            default -> field.content().equals("b")
                ? new IFA_LLLBINARY(field.length(), "")
                : new IFA_LLLCHAR(field.length(), "");
        };
    }

    static String addJpos() throws Exception {
        ISOFieldPackager[] packagers = new ISOFieldPackager[129];
        packagers[0] = new IFA_NUMERIC(4, "");
        packagers[1] = new IFB_BITMAP(16, "");
        fields.forEach((number, field) -> packagers[number] = packager(field));
        ISOBasePackager packager = new ISOBasePackager() {};
        packager.setFieldPackager(packagers);
        Map<Integer, Object> values = new TreeMap<>();
        fields.forEach((number, field) -> values.put(number, value(field)));
        operations.put("decode", () -> jposDecode(packager));
        operations.put("read", () -> {
            ISOMsg message = jposDecode(packager);
            sink = message.getMTI();
            for (int number : read) {
                sink = message.getString(number);
            }
            return message;
        });
        operations.put("dict", () -> {
            ISOMsg message = jposDecode(packager);
            Map<Integer, String> all = new HashMap<>();
            all.put(0, message.getMTI());
            for (int number = 2; number <= message.getMaxField(); number++) {
                if (message.hasField(number)) {
                    all.put(number, message.getString(number));
                }
            }
            return all;
        });
        operations.put("encode", () -> {
            ISOMsg message = new ISOMsg(mti);
            message.setPackager(packager);
            for (Map.Entry<Integer, Object> entry : values.entrySet()) {
                if (entry.getValue() instanceof byte[] bytes) {
                    message.set(entry.getKey(), bytes);
                } else {
                    message.set(entry.getKey(), (String) entry.getValue());
                }
            }
            return message.pack();
        });
        operations.put("change", () -> {
            ISOMsg message = jposDecode(packager);
            message.set(11, changed);
            return message.pack();
        });
        check(Arrays.equals((byte[]) operations.get("encode").run(), data), "encode");
        Map<Integer, String> all = new HashMap<>(Map.of(0, mti));
        fields.forEach((number, field) -> all.put(number, field.value()));
        check(operations.get("dict").run().equals(all), "decode");
        return version(ISOMsg.class);
    }

    static ISOMsg jposDecode(ISOBasePackager packager) throws Exception {
        ISOMsg message = new ISOMsg();
        message.setPackager(packager);
        message.unpack(data);
        return message;
    }

    static Object value(Field field) {
        boolean binary = field.content().equals("b");
        return binary ? HexFormat.of().parseHex(field.value()) : field.value();
    }

    // -- j8583 -----------------------------------------------------------------------

    // Binary data in messages of text it knows as hex digits only, so the chip data is
    // Latin-1 text to it.
    static IsoType type(Field field) {
        return switch (field.prefixDigits()) {
            case 0 -> field.content().equals("n") ? IsoType.NUMERIC : IsoType.ALPHA;
            case 2 -> IsoType.LLVAR;
            default -> IsoType.LLLVAR;
        };
    }

    static String text(Field field) {
        return field.content().equals("b")
            ? new String((byte[]) value(field), StandardCharsets.ISO_8859_1)
            : field.value();
    }

    static String addJ8583() throws Exception {
        int type = Integer.parseInt(mti, 16);
        MessageFactory<IsoMessage> factory = new MessageFactory<>();
        factory.setCharacterEncoding("ISO-8859-1");
        factory.setUseBinaryBitmap(true);
        Map<Integer, FieldParseInfo> infos = new HashMap<>();
        fields.forEach((number, field) -> infos.put(number, FieldParseInfo.getInstance(
            type(field), field.length(), "ISO-8859-1", false)));
        factory.setParseMap(type, infos);
        Map<Integer, String> values = new TreeMap<>();
        fields.forEach((number, field) -> values.put(number, text(field)));
        operations.put("decode", () -> factory.parseMessage(data, 0));
        operations.put("read", () -> {
            IsoMessage message = factory.parseMessage(data, 0);
            for (int number : read) {
                sink = message.getObjectValue(number);
            }
            return message.getType();
        });
        operations.put("dict", () -> {
            IsoMessage message = factory.parseMessage(data, 0);
            Map<Integer, String> all = new HashMap<>();
            for (int number = 2; number <= 128; number++) {
                if (message.hasField(number)) {
                    all.put(number, message.getObjectValue(number));
                }
            }
            return all;
        });
        operations.put("encode", () -> {
            IsoMessage message = factory.newMessage(type);
            for (Map.Entry<Integer, String> entry : values.entrySet()) {
                Field field = fields.get(entry.getKey());
                int length = field.prefixDigits() == 0 ? field.length() : 0;
                message.setValue(entry.getKey(), entry.getValue(), type(field), length);
            }
            return message.writeData();
        });
        operations.put("change", () -> {
            IsoMessage message = factory.parseMessage(data, 0);
            message.setValue(11, changed, IsoType.NUMERIC, 6);
            return message.writeData();
        });
        check(Arrays.equals((byte[]) operations.get("encode").run(), data), "encode");
        check(operations.get("dict").run().equals(values), "decode");
        return version(IsoMessage.class);
    }
}
