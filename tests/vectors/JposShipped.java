// Packs one message by jPOS:
//   java -cp 'lib/*' JposShipped.java jpos-NAME.xml jpos-NAME.fields > jpos-NAME.hex
// A line of the fields is a path and a value; bytes are hex digits behind "0x".

import java.io.FileInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jpos.iso.ISOMsg;
import org.jpos.iso.ISOUtil;
import org.jpos.iso.packager.GenericPackager;

public class JposShipped {
    public static void main(String[] names) throws Exception {
        ISOMsg m = new ISOMsg();
        m.setPackager(new GenericPackager(new FileInputStream(names[0])));
        for (String line : Files.readAllLines(Path.of(names[1]))) {
            String[] words = line.split(" ", 2);
            if (words[0].equals("mti")) {
                m.setMTI(words[1]);
            } else if (words[1].startsWith("0x")) {
                m.set(words[0], ISOUtil.hex2byte(words[1].substring(2)));
            } else {
                m.set(words[0], words[1]);
            }
        }
        System.out.println(ISOUtil.hexString(m.pack()));
    }
}
