// Packs one message by moov-io/iso8583 v0.23.2, in a module of its own:
//   go mod init own && go get github.com/moov-io/iso8583@v0.23.2
//   go run MoovOwn.go moov-own.json > moov-own.hex

package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/specs"
)


type Processing struct {
	F1 *field.String
	F2 *field.String
	F3 *field.String
}

type Additional struct {
	F01 *field.String `iso8583:"01"`
	F37 *field.Numeric `iso8583:"37"`
}

type Chip struct {
	F9F26 *field.Binary
	F9A   *field.Binary
	F9F02 *field.Binary
}

type Terminal struct {
	F1 *field.String
	F2 *field.String
}

type Private struct {
	F2  *field.String
	F3  *field.Numeric
	F25 *Inner
}

type Inner struct {
	F2 *field.String
	F9 *field.Binary
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func bytes(digits string) []byte {
	data, err := hex.DecodeString(digits)
	check(err)
	return data
}

func main() {
	file, err := os.ReadFile(os.Args[1])
	check(err)
	spec, err := specs.Builder.ImportJSON(file)
	check(err)
	m := iso8583.NewMessage(spec)
	m.MTI("0100")
	for number, text := range map[int]string{
		2: "9999990000000000015", 4: "1500", 11: "000017", 12: "120000", 18: "5411",
		37: "123456789012", 41: "TERM0001", 44: "ABC 12", 49: "840",
		61: "0123456789ABCDEF", 70: "301", 102: "ACCOUNT 1",
	} {
		check(m.Field(number, text))
	}
	for number, digits := range map[int]string{
		52: "0123456789ABCDEF", 53: "A1B2C3", 64: "1122334455667788",
		128: "99AABBCCDDEEFF00",
	} {
		check(m.BinaryField(number, bytes(digits)))
	}
	check(m.Marshal(&struct {
		F3   *Processing
		F48  *Additional
		F55  *Chip
		F60  *Terminal
		F127 *Private
	}{
		&Processing{field.NewStringValue("00"), field.NewStringValue("10"), field.NewStringValue("20")},
		&Additional{field.NewStringValue("hello"), field.NewNumericValue(42)},
		&Chip{
			field.NewBinaryValue(bytes("421563A4A0B2C4A7")),
			field.NewBinaryValue(bytes("261124")),
			field.NewBinaryValue(bytes("000000001500")),
		},
		&Terminal{field.NewStringValue("A"), field.NewStringValue("B2")},
		&Private{field.NewStringValue("key-1"), field.NewNumericValue(7),
			&Inner{field.NewStringValue("inner"), field.NewBinaryValue(bytes("BEEF"))}},
	}))
	packed, err := m.Pack()
	check(err)
	fmt.Println(strings.ToUpper(hex.EncodeToString(packed)))
}
