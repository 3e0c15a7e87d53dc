// Packs one message by jPOS: java -cp 'lib/*' JposOwn.java jpos-own.xml > jpos-own.hex

import java.io.FileInputStream;
import org.jpos.iso.ISOMsg;
import org.jpos.iso.ISOUtil;
import org.jpos.iso.packager.GenericPackager;

public class JposOwn {
    public static void main(String[] names) throws Exception {
        ISOMsg m = new ISOMsg();
        m.setPackager(new GenericPackager(new FileInputStream(names[0])));
        m.setMTI("0100");
        m.set(2, "9999990000000000015".substring(0, 19));
        m.set(3, "000000");
        m.set(4, "00000001500");
        m.set(11, "000017");
        m.set(23, "001");
        m.set(28, "C00000012");
        m.set(29, "D00000034");
        m.set(35, "9999990000000014=31122011");
        m.set(37, "123456789012");
        m.set(41, "TERM0001");
        m.set(44, "ABC 12");
        m.set(48, "hello");
        m.set(52, ISOUtil.hex2byte("0123456789ABCDEF"));
        m.set(53, ISOUtil.hex2byte("A1B2C3"));
        m.set(64, ISOUtil.hex2byte("1122334455667788"));
        m.set(96, ISOUtil.hex2byte("99AABBCCDDEEFF00"));
        m.set("120.1", "12345");
        m.set("120.2", "Main street");
        m.set("127.2", "key-1");
        m.set("127.3", "ROUTE1");
        m.set("127.25.2", "000000001500");
        m.set("127.25.3", "0102030405060708");
        System.out.println(ISOUtil.hexString(m.pack()));
    }
}
