/* The bound of a lazy decode: a bare walk of one message of one spec. It checks what a
 * decode checks (the MTI, the bitmaps, every length) and notes where each field begins.
 * No objects, no errors that say where, no spec but the message's own fields.
 *
 *     walk FILE        FILE: as bench/codec/contenders.py writes it
 *
 * Asked as bench/codec/serving.py says.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIELD_COUNT = 129, DATA_SIZE_MAX = 4096 };
enum { LINE_SIZE_MAX = 2 * DATA_SIZE_MAX + 64 };

struct field {
    uint16_t length;
    uint8_t prefix_digits;
};

static struct field fields[FIELD_COUNT];
static unsigned char data[DATA_SIZE_MAX];
static size_t data_size;
static uint16_t begins[FIELD_COUNT];

static uint64_t big_endian(const unsigned char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return __builtin_bswap64(value);
}

/* Where the field ends; 0 when it does not fit. */
static inline size_t field_end(unsigned number, size_t at)
{
    const struct field *field = &fields[number];
    size_t length = field->length;

    if (length == 0)
        return 0;
    if (field->prefix_digits != 0) {
        size_t said = 0;
        if (data_size - at < field->prefix_digits)
            return 0;
        for (unsigned index = 0; index < field->prefix_digits; index++) {
            unsigned digit = data[at++] - (unsigned)'0';
            if (digit > 9)
                return 0;
            said = said * 10 + digit;
        }
        if (said > length)
            return 0;
        length = said;
    }
    begins[number] = (uint16_t)at;
    return data_size - at < length ? 0 : at + length;
}

/* 1 when the message is whole. */
__attribute__((noinline)) static int walk(void)
{
    size_t at = 12;

    if (data_size < at)
        return 0;
    for (unsigned index = 0; index < 4; index++)
        if (data[index] - (unsigned)'0' > 9)
            return 0;
    uint64_t bitmaps[2] = {big_endian(data + 4), 0};
    if (bitmaps[0] >> 63) {
        if (data_size < at + 8)
            return 0;
        bitmaps[1] = big_endian(data + at);
        at += 8;
        bitmaps[0] &= UINT64_MAX >> 1;
    }
    for (unsigned bitmap = 0; bitmap < 2; bitmap++)
        for (uint64_t bits = bitmaps[bitmap]; bits != 0;) {
            unsigned place = (unsigned)__builtin_clzll(bits);
            bits &= ~(UINT64_C(1) << (63 - place));
            at = field_end(bitmap * 64 + place + 1, at);
            if (at == 0)
                return 0;
        }
    return at == data_size;
}

static void repeat(long count)
{
    for (long index = 0; index < count; index++) {
        walk();
        __asm__ volatile("" ::: "memory");
    }
}

static double seconds_of(long count)
{
    struct timespec start, end;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    repeat(count);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (double)(end.tv_sec - start.tv_sec)
           + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
}

static double nanoseconds(double seconds)
{
    long count = 64;
    double spent;

    while ((spent = seconds_of(count)) < seconds / 10)
        count *= 2;
    count = (long)((double)count * seconds / spent) + 1;
    return seconds_of(count) / (double)count * 1e9;
}

static void fail(const char *text)
{
    fprintf(stderr, "error: %s\n", text);
    exit(1);
}

static void read_data(const char *hex)
{
    unsigned byte;

    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
        if (data_size == DATA_SIZE_MAX)
            fail("the message is too long");
        data[data_size++] = (unsigned char)byte;
    }
}

static void read_file(const char *path)
{
    static char line[LINE_SIZE_MAX];
    unsigned number, length, prefix_digits;
    FILE *file = fopen(path, "r");

    if (file == NULL)
        fail("the file cannot be read");
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "data\t", 5) == 0)
            read_data(line + 5);
        else if (sscanf(line, "field\t%u\t%*s\t%u\t%u", &number, &length,
                        &prefix_digits) == 3
                 && number < FIELD_COUNT)
            fields[number] = (struct field){(uint16_t)length, (uint8_t)prefix_digits};
    }
    fclose(file);
}

int main(int count, char **arguments)
{
    char request[16], operation[16];
    double argument;

    if (count != 2)
        fail("one file is expected");
    read_file(arguments[1]);
    if (!walk())
        fail("the message is not whole");
    puts("ready C");
    fflush(stdout);
    while (scanf("%15s %15s %lf", request, operation, &argument) == 3) {
        if (strcmp(request, "time") == 0)
            printf("%f\n", nanoseconds(argument));
        else {
            repeat((long)argument);
            puts("done");
        }
        fflush(stdout);
    }
    return 0;
}
