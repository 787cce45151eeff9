/* The commands of MLPerf Tiny's text protocol; docs/MLPERF.md says what is answered, thimble/mlperf.py does the same.
 *
 * No floats: a scale or an input is taken apart as its mantissa and exponent, and the rest is integers of 64 bits. */
#include "thimble_mlperf.h"

#include <string.h>

#include "server.h"

enum { IN_COMMAND, BEHIND_DELIMITER, IN_FRAME };
enum { MANTISSA_BITS = 23, EXPONENT_BIAS = 150 /* with the mantissa as an integer */, FLOAT_BYTES = 4 };
enum { FIRST_PRINTABLE = 0x20, LAST_PRINTABLE = 0x7E, CARRIAGE_RETURN = 13, UNSIGNED_BIT = 0x80 };
#define LARGEST (1ll << 60)   /* what products and sums are held to */
#define REAL_BITS 16          /* of the fraction of an input or output that are compared */
#define LARGEST_DIFFERENCE (1 << 28)
#define SQUARE_BITS 24        /* of the fraction of the squares' sum */

/* ------------------------------------------------------------------------------------------------- text */

static void send_char(const thimble_mlperf *mlperf, char letter) {
    const thimble_board *board = mlperf->server->setup->board;
    board->send(board->context, (uint8_t)letter);
}

static void send_text(const thimble_mlperf *mlperf, const char *text) {
    while (*text) {
        send_char(mlperf, *text++);
    }
}

/* With at least `digits` of them. */
static void send_number(const thimble_mlperf *mlperf, uint64_t value, uint32_t digits) {
    char text[20];
    uint32_t count = 0;
    do {
        text[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (; digits > count; digits--) {
        send_char(mlperf, '0');
    }
    while (count > 0) {
        send_char(mlperf, text[--count]);
    }
}

static void send_numbered(const thimble_mlperf *mlperf, const char *before, uint32_t value, const char *behind) {
    send_text(mlperf, before);
    send_number(mlperf, value, 1);
    send_text(mlperf, behind);
}

static void send_hex(const thimble_mlperf *mlperf, uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    send_char(mlperf, digits[byte >> 4]);
    send_char(mlperf, digits[byte & 15]);
}

/* A character of a name, or of a command that nobody knows, unless it could be taken for the end of one. */
static void send_name_char(const thimble_mlperf *mlperf, uint8_t letter) {
    if (letter >= FIRST_PRINTABLE && letter <= LAST_PRINTABLE && !strchr("[]%\"\\", letter)) {
        send_char(mlperf, (char)letter);
    }
}

static void send_name(const thimble_mlperf *mlperf, const char *name) {
    while (*name) {
        send_name_char(mlperf, (uint8_t)*name++);
    }
}

/* Cuts the next word off; NULL at the end. */
static char *next_word(char **at) {
    char *word = *at;
    while (*word == ' ') {
        word++;
    }
    char *end = word;
    while (*end && *end != ' ') {
        end++;
    }
    *at = *end ? end + 1 : end;
    *end = 0;
    return *word ? word : NULL;
}

/* A decimal number of at most 31 bits; -1 for any other word. */
static int32_t number_in(const char *word) {
    int64_t value = 0;
    for (; *word; word++) {
        if (*word < '0' || *word > '9') {
            return -1;
        }
        value = value * 10 + (*word - '0');
        if (value > INT32_MAX) {
            return -1;
        }
    }
    return (int32_t)value;
}

/* ------------------------------------------------------------------------------------------------- numbers */

/* round(|value| * unit), half upwards, of an IEEE 754 single given by its bits, times `steps`. */
static int64_t product(uint32_t steps, uint32_t bits, uint32_t unit) {
    uint32_t exponent = bits >> MANTISSA_BITS & 0xFF;
    uint64_t mantissa = (bits & ((1u << MANTISSA_BITS) - 1)) | (exponent ? 1u << MANTISSA_BITS : 0u);
    int32_t shift = (int32_t)(exponent ? exponent : 1) - EXPONENT_BIAS;
    uint64_t value = steps * mantissa * unit; /* 8, 24 and 20 bits */
    if (shift < -62) {
        return 0;
    }
    if (shift <= 0) {
        return (int64_t)(shift ? (value + (1ull << (-shift - 1))) >> -shift : value);
    }
    return value == 0 ? 0 : shift > 8 || value << shift > LARGEST ? LARGEST : (int64_t)(value << shift);
}

/* What a tensor's byte stands for, times `unit`. */
static int64_t real_of(const thimble_port *port, uint8_t byte, uint32_t unit) {
    int32_t steps = (int8_t)byte - port->zero_point;
    return steps < 0 ? -product((uint32_t)-steps, port->scale_bits, unit)
                     : product((uint32_t)steps, port->scale_bits, unit);
}

/* The integer of a float, as its bits: the nearest to the exact quotient, halves away from zero. */
static uint8_t quantised(const thimble_port *port, uint32_t bits) {
    uint32_t exponents[2] = {bits >> MANTISSA_BITS & 0xFF, port->scale_bits >> MANTISSA_BITS & 0xFF};
    uint64_t numbers[2] = {bits, port->scale_bits};
    for (uint32_t i = 0; i < 2; i++) {
        numbers[i] &= (1u << MANTISSA_BITS) - 1;
        numbers[i] |= exponents[i] ? 1u << MANTISSA_BITS : 0u;
        exponents[i] += exponents[i] == 0;
    }
    int32_t shift = (int32_t)exponents[0] - (int32_t)exponents[1];
    uint32_t places = (uint32_t)(shift < 0 ? -shift : shift);
    int64_t steps = 0;
    if (shift > 32) {
        steps = numbers[0] ? INT16_MAX : 0;
    } else if (shift >= -32) {
        numbers[shift < 0] <<= places;
        uint64_t quotient = (2 * numbers[0] + numbers[1]) / (2 * numbers[1]);
        steps = quotient > INT16_MAX ? INT16_MAX : (int64_t)quotient;
    }
    steps = (bits >> 31 ? -steps : steps) + port->zero_point;
    return (uint8_t)(steps > INT8_MAX ? INT8_MAX : steps < INT8_MIN ? INT8_MIN : steps);
}

/* ------------------------------------------------------------------------------------------------- the input */

static uint32_t input_bytes(thimble_server *server) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < server->model.input_count; i++) {
        thimble_port port;
        thimble_input(&server->model, i, &port);
        total += port.bytes;
    }
    return total;
}

/* What `db` loads lies behind the model's memory; behind that there is room for the tensors that it becomes. */
static uint8_t *buffer_of(const thimble_mlperf *mlperf) {
    const thimble_server *server = mlperf->server;
    return (uint8_t *)server->setup->memory + thimble_align4(server->model.memory_bytes);
}

static uint32_t buffer_room(const thimble_mlperf *mlperf) {
    thimble_server *server = mlperf->server;
    uint32_t taken = thimble_align4(server->model.memory_bytes) + input_bytes(server);
    return server->setup->memory_bytes > taken ? server->setup->memory_bytes - taken : 0;
}

/* Between bytes and tensors, either way: an input whose least integer stands for 0 takes unsigned bytes. */
static void toggle_unsigned(const thimble_mlperf *mlperf) {
    uint8_t *at = buffer_of(mlperf);
    for (uint32_t i = 0; i < mlperf->server->model.input_count; i++) {
        thimble_port port;
        thimble_input(&mlperf->server->model, i, &port);
        for (uint32_t k = 0; k < port.bytes && port.zero_point == INT8_MIN; k++) {
            at[k] ^= UNSIGNED_BIT;
        }
        at += port.bytes;
    }
}

static int has_floats(const thimble_mlperf *mlperf) {
    return mlperf->announced != input_bytes(mlperf->server);
}

/* All inputs as tensors, one behind the other. */
static const uint8_t *tensors_of_input(const thimble_mlperf *mlperf) {
    const uint8_t *from = buffer_of(mlperf);
    if (!has_floats(mlperf)) {
        toggle_unsigned(mlperf);
        return from;
    }
    uint8_t *to = buffer_of(mlperf) + mlperf->announced, *tensors = to;
    for (uint32_t i = 0; i < mlperf->server->model.input_count; i++) {
        thimble_port port;
        thimble_input(&mlperf->server->model, i, &port);
        for (uint32_t k = 0; k < port.bytes; k++, from += FLOAT_BYTES) {
            *to++ = quantised(&port, thimble_read_u32(from));
        }
    }
    return tensors;
}

static void load(thimble_mlperf *mlperf, const char *word) {
    int32_t size = word ? number_in(word) : 0;
    if (!word) {
        send_text(mlperf, "e-[Command 'db load' requires the # of bytes]\r\n");
    } else if (size <= 0) {
        send_text(mlperf, "e-[Command 'db load' must be >0 bytes]\r\n");
    } else if (!mlperf->server->has_model) {
        send_text(mlperf, "e-[No model is loaded]\r\n");
    } else if ((uint32_t)size > buffer_room(mlperf)) {
        send_numbered(mlperf, "e-[Supplied buffer size ", (uint32_t)size, " exceeds maximum of ");
        send_numbered(mlperf, "", buffer_room(mlperf), "]\r\n");
    } else {
        mlperf->announced = (uint32_t)size;
        mlperf->received = 0;
        mlperf->has_results = 0;
        send_numbered(mlperf, "m-[Expecting ", (uint32_t)size, " bytes]\r\n");
    }
}

static int32_t hex_digit(char letter) {
    return letter >= '0' && letter <= '9'   ? letter - '0'
           : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10
           : letter >= 'A' && letter <= 'F' ? letter - 'A' + 10
                                            : -1;
}

/* Nothing of a line with a mistake is taken; digits behind the last byte are not looked at. */
static void take_digits(thimble_mlperf *mlperf, const char *word) {
    uint32_t count = (uint32_t)strlen(word) / 2, left = mlperf->announced - mlperf->received;
    if (mlperf->announced == 0) {
        send_text(mlperf, "e-[Command 'db load' must come first]\r\n");
        return;
    }
    if (left == 0) {
        send_text(mlperf, "e-[All bytes are loaded]\r\n");
        return;
    }
    if (word[2 * count]) {
        send_text(mlperf, "e-[Insufficent number of hex digits]\r\n");
        return;
    }
    count = count < left ? count : left;
    for (uint32_t i = 0; i < count; i++) {
        if (hex_digit(word[2 * i]) < 0 || hex_digit(word[2 * i + 1]) < 0) {
            send_text(mlperf, "e-[Invalid hex digit '");
            send_name_char(mlperf, (uint8_t)word[2 * i]);
            send_name_char(mlperf, (uint8_t)word[2 * i + 1]);
            send_text(mlperf, "']\r\n");
            return;
        }
    }
    uint8_t *to = buffer_of(mlperf) + mlperf->received;
    for (uint32_t i = 0; i < count; i++) {
        to[i] = (uint8_t)(hex_digit(word[2 * i]) << 4 | hex_digit(word[2 * i + 1]));
    }
    mlperf->received += count;
    mlperf->has_results = 0;
    if (mlperf->received == mlperf->announced) {
        send_text(mlperf, "m-load-done\r\n");
    }
}

static void print(thimble_mlperf *mlperf, char *rest) {
    const char *words[2] = {next_word(&rest), next_word(&rest)};
    uint32_t numbers[2] = {THIMBLE_MLPERF_PRINT_BYTES, 0}; /* how many, from where */
    for (uint32_t i = 0; i < 2 && words[i]; i++) {
        if (number_in(words[i]) < 0) {
            send_text(mlperf, "e-[Command 'db print' takes numbers]\r\n");
            return;
        }
        numbers[i] = (uint32_t)number_in(words[i]);
    }
    uint32_t left = numbers[1] < mlperf->received ? mlperf->received - numbers[1] : 0;
    uint32_t count = numbers[0] < left ? numbers[0] : left;
    for (uint32_t i = 0; i < count; i++) {
        send_text(mlperf, i % THIMBLE_MLPERF_LINE_BYTES ? "-" : "m-buffer-");
        send_hex(mlperf, buffer_of(mlperf)[numbers[1] + i]);
        if (i + 1 == count || (i + 1) % THIMBLE_MLPERF_LINE_BYTES == 0) {
            send_text(mlperf, "\r\n");
        }
    }
}

static void manipulate_buffer(thimble_mlperf *mlperf, char *rest) {
    char *word = next_word(&rest);
    if (!word) {
        send_text(mlperf, "e-[Command 'db' requires a subcommand]\r\n");
    } else if (strcmp(word, "load") == 0) {
        load(mlperf, next_word(&rest));
    } else if (strcmp(word, "print") == 0) {
        print(mlperf, rest);
    } else {
        take_digits(mlperf, word);
    }
}

/* ------------------------------------------------------------------------------------------------- inference */

static void set_pin(thimble_mlperf *mlperf, int up) {
    const thimble_board *board = mlperf->server->setup->board;
    if (mlperf->is_energy && board->set_trigger && mlperf->pin_is_up != up) {
        board->set_trigger(board->context, up);
        mlperf->pin_is_up = (uint8_t)up;
    }
}

static void hold(const thimble_mlperf *mlperf) {
    void *context = mlperf->server->setup->board->context;
    uint32_t started = mlperf->clock_us(context);
    while (mlperf->clock_us(context) - started < THIMBLE_MLPERF_PULSE_US) {
    }
}

/* The time; in the mode energy, a pulse. */
static uint32_t stamp(thimble_mlperf *mlperf) {
    if (mlperf->is_energy) {
        set_pin(mlperf, 1);
        hold(mlperf);
        set_pin(mlperf, 0); /* the falling edge is what a meter counts */
        hold(mlperf);
        set_pin(mlperf, 1);
    }
    return mlperf->clock_us(mlperf->server->setup->board->context);
}

/* Apart from the stamp, so that what is measured does not take the line's time too. */
static void tell(const thimble_mlperf *mlperf, uint32_t us) {
    if (!mlperf->is_energy) {
        send_numbered(mlperf, "m-lap-us-", us, "\r\n");
    }
}

static int32_t run(const thimble_mlperf *mlperf, const uint8_t *tensors, uint32_t count) {
    thimble_server *server = mlperf->server;
    int32_t error = 0;
    for (; count > 0 && error >= 0; count--) {
        const uint8_t *from = tensors;
        for (uint32_t i = 0; i < server->model.input_count; i++) { /* again, as the run before has used them up */
            thimble_port port;
            thimble_input(&server->model, i, &port);
            memcpy((uint8_t *)server->setup->memory + port.offset, from, port.bytes);
            from += port.bytes;
        }
        error = thimble_run(&server->model, server->setup->memory, server->model.memory_bytes);
    }
    return error;
}

/* The mean of the squared differences between an input and an output of the same length, in parts of `unit`. */
static uint64_t mean_square(const thimble_mlperf *mlperf, const thimble_port *in, const thimble_port *out, uint32_t unit) {
    const uint8_t *given = buffer_of(mlperf), *found = (const uint8_t *)mlperf->server->setup->memory + out->offset;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < out->bytes; i++) {
        int64_t real;
        if (has_floats(mlperf)) {
            uint32_t bits = thimble_read_u32(given + i * FLOAT_BYTES);
            real = product(1, bits, 1u << REAL_BITS);
            real = bits >> 31 ? -real : real;
        } else {
            real = real_of(in, given[i] ^ (in->zero_point == INT8_MIN ? UNSIGNED_BIT : 0), 1u << REAL_BITS);
        }
        real -= real_of(out, found[i], 1u << REAL_BITS);
        real = real < 0 ? -real : real;
        real = real > LARGEST_DIFFERENCE ? LARGEST_DIFFERENCE : real;
        sum += (uint64_t)(real * real) >> (2 * REAL_BITS - SQUARE_BITS);
        sum = sum > LARGEST ? LARGEST : sum;
    }
    uint64_t mean = sum / out->bytes, fraction = mean & ((1u << SQUARE_BITS) - 1);
    return (mean >> SQUARE_BITS) * unit + ((fraction * unit + (1u << (SQUARE_BITS - 1))) >> SQUARE_BITS);
}

static void send_fraction(const thimble_mlperf *mlperf, uint64_t value) {
    send_number(mlperf, value / THIMBLE_MLPERF_FRACTION, 1);
    send_char(mlperf, '.');
    send_number(mlperf, value % THIMBLE_MLPERF_FRACTION, 6);
}

static void send_outputs(const thimble_mlperf *mlperf) {
    thimble_model *model = &mlperf->server->model;
    uint32_t sent = 0;
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_port port;
        thimble_output(model, i, &port);
        for (uint32_t k = 0; k < port.bytes; k++) {
            int64_t value = real_of(&port, ((uint8_t *)mlperf->server->setup->memory)[port.offset + k],
                                    THIMBLE_MLPERF_FRACTION);
            send_text(mlperf, sent++ == 0 ? "" : ",");
            send_text(mlperf, value < 0 ? "-" : "");
            send_fraction(mlperf, (uint64_t)(value < 0 ? -value : value));
        }
    }
}

static void results(const thimble_mlperf *mlperf) {
    thimble_model *model = &mlperf->server->model;
    if (!mlperf->has_results) {
        send_text(mlperf, "e-[No inference has run]\r\n");
        return;
    }
    thimble_port in, out;
    thimble_input(model, 0, &in);
    thimble_output(model, 0, &out);
    send_text(mlperf, "m-results-[");
    if (model->input_count == 1 && model->output_count == 1 && in.bytes == out.bytes && in.bytes > 1) {
        send_fraction(mlperf, mean_square(mlperf, &in, &out, THIMBLE_MLPERF_FRACTION));
    } else {
        send_outputs(mlperf);
    }
    send_text(mlperf, "]\r\n");
}

static void measure(thimble_mlperf *mlperf, uint32_t count, uint32_t warmups) {
    thimble_server *server = mlperf->server;
    const uint8_t *tensors = tensors_of_input(mlperf);
    thimble_forget_tensors(server);
    send_numbered(mlperf, "m-warmup-start-", warmups, "\r\n");
    int32_t error = run(mlperf, tensors, warmups);
    if (error >= 0) {
        send_numbered(mlperf, "m-warmup-done\r\nm-infer-start-", count, "\r\n");
        uint32_t started = stamp(mlperf);
        error = run(mlperf, tensors, count);
        uint32_t ended = stamp(mlperf);
        tell(mlperf, started);
        tell(mlperf, ended);
    }
    if (!has_floats(mlperf)) {
        toggle_unsigned(mlperf);
    }
    mlperf->has_results = error >= 0;
    if (error < 0) {
        send_numbered(mlperf, "e-[Inference failed with error -", (uint32_t)-error, "]\r\n");
        return;
    }
    send_text(mlperf, "m-infer-done\r\n");
    results(mlperf);
}

static void infer(thimble_mlperf *mlperf, char *rest) {
    const char *words[2] = {next_word(&rest), next_word(&rest)};
    int32_t count = words[0] ? number_in(words[0]) : 1;
    int32_t warmups = words[1] ? number_in(words[1]) : THIMBLE_MLPERF_WARMUPS;
    if (count <= 0) {
        send_text(mlperf, "e-[Inference iterations must be >0]\r\n");
    } else if (warmups < 0) {
        send_text(mlperf, "e-[Inference warmup must be >=0]\r\n");
    } else if (!mlperf->server->has_model) {
        send_text(mlperf, "e-[No model is loaded]\r\n");
    } else {
        uint32_t expected = input_bytes(mlperf->server);
        if (mlperf->received == mlperf->announced &&
            (mlperf->received == expected || mlperf->received == FLOAT_BYTES * expected)) {
            measure(mlperf, (uint32_t)count, (uint32_t)warmups);
        } else {
            send_numbered(mlperf, "e-[Input db has ", mlperf->received, " bytes, expected ");
            send_numbered(mlperf, "", expected, " or, as floats, ");
            send_numbered(mlperf, "", FLOAT_BYTES * expected, "]\r\n");
        }
    }
}

/* ------------------------------------------------------------------------------------------------- the device */

/* The value of the key "name" of the metadata's JSON object, without escapes. */
static void send_model_name(const thimble_mlperf *mlperf) {
    static const char key[] = "name";
    const uint8_t *file = mlperf->server->model.data;
    const uint8_t *section = thimble_find_section(file, THIMBLE_SECTION_METADATA);
    if (!section) {
        return;
    }
    const uint8_t *json = file + thimble_read_u32(section + THIMBLE_SECTION_ENTRY_OFFSET_OFFSET);
    uint32_t length = thimble_read_u32(section + THIMBLE_SECTION_ENTRY_LENGTH_OFFSET);
    uint32_t depth = 0, matched = 0, is_text = 0, is_key = 0, is_found = 0;
    for (uint32_t i = 0; i < length; i++) {
        uint8_t letter = json[i];
        if (is_text && letter == '\\') {
            i += i + 1 < length && json[i + 1] == 'u' ? 5 : 1;
            matched = sizeof key; /* no key with an escape is meant */
        } else if (is_text && letter == '"') {
            is_text = 0;
            if (is_found) {
                return;
            }
            is_key = depth == 1 && matched == sizeof key - 1;
        } else if (is_text && is_found) {
            send_name_char(mlperf, letter);
        } else if (is_text) {
            matched = matched < sizeof key - 1 && (uint8_t)key[matched] == letter ? matched + 1 : sizeof key;
        } else if (letter == '"') {
            is_text = 1;
            is_found = is_key == 2;
            is_key = matched = 0;
        } else if (letter == ':') {
            is_key *= 2;
        } else if (letter == '{' || letter == '[') {
            depth++;
            is_key = 0;
        } else if (letter == '}' || letter == ']') {
            depth--;
        } else if (letter > ' ') {
            is_key = 0;
        }
    }
}

static void help(const thimble_mlperf *mlperf) {
    send_text(mlperf, THIMBLE_MLPERF_PROFILE "\r\n\r\n"
                      "help         : Print this information\r\n"
                      "name         : Print the name of the device\r\n"
                      "profile      : Print the profile and the model's name\r\n"
                      "timestamp    : Generate a timestamp\r\n"
                      "db SUBCMD    : Manipulate a generic byte buffer\r\n"
                      "  load N     : Expect N bytes\r\n"
                      "  HH[HH]*    : Load hex bytes until there are N\r\n"
                      "  print [N=16] [offset=0]\r\n"
                      "             : Print N bytes at offset as hex\r\n"
                      "infer N [W=10]: Execute N inferences after W warm-ups\r\n"
                      "results      : Print the result of the last inference\r\n");
}

static void profile(const thimble_mlperf *mlperf) {
    send_text(mlperf, "m-profile-[" THIMBLE_MLPERF_PROFILE "]\r\nm-model-[");
    if (mlperf->server->has_model) {
        send_model_name(mlperf);
    }
    send_text(mlperf, "]\r\n");
}

static void obey(thimble_mlperf *mlperf, char *rest) {
    const char *word = next_word(&rest);
    if (!word) {
        return;
    }
    if (strcmp(word, "name") == 0) {
        send_text(mlperf, "m-name-dut-[");
        send_name(mlperf, mlperf->server->setup->board->name);
        send_text(mlperf, "]\r\n");
    } else if (strcmp(word, "profile") == 0) {
        profile(mlperf);
    } else if (strcmp(word, "timestamp") == 0) {
        tell(mlperf, stamp(mlperf));
    } else if (strcmp(word, "help") == 0) {
        help(mlperf);
    } else if (strcmp(word, "db") == 0) {
        manipulate_buffer(mlperf, rest);
    } else if (strcmp(word, "infer") == 0) {
        infer(mlperf, rest);
    } else if (strcmp(word, "results") == 0) {
        results(mlperf);
    } else {
        send_text(mlperf, "e-[Unknown command: ");
        send_name(mlperf, word);
        send_text(mlperf, "]\r\n");
    }
}

void thimble_mlperf_start(thimble_mlperf *mlperf, thimble_server *server, uint32_t (*clock_us)(void *context),
                          int is_energy) {
    memset(mlperf, 0, sizeof *mlperf);
    mlperf->server = server;
    mlperf->clock_us = clock_us;
    mlperf->is_energy = (uint8_t)is_energy;
    send_text(mlperf, is_energy ? "m-timestamp-mode-energy\r\n" : "m-timestamp-mode-performance\r\n");
    tell(mlperf, stamp(mlperf));
    send_text(mlperf, "m-init-done\r\nm-ready\r\n");
}

static void end_command(thimble_mlperf *mlperf) {
    char *command = mlperf->server->setup->request_buffer;
    if (mlperf->length > THIMBLE_MLPERF_COMMAND_BYTES) {
        send_numbered(mlperf, "e-[Command is longer than ", THIMBLE_MLPERF_COMMAND_BYTES, " bytes]\r\n");
    } else {
        command[mlperf->length] = 0;
        obey(mlperf, command);
    }
    mlperf->length = 0;
    send_text(mlperf, "m-ready\r\n");
}

void thimble_mlperf_receive(thimble_mlperf *mlperf, uint8_t byte) {
    if (byte == THIMBLE_WIRE_DELIMITER) {
        mlperf->place = BEHIND_DELIMITER;
        mlperf->length = 0;
        thimble_server_receive(mlperf->server, byte);
        return;
    }
    if (mlperf->place == BEHIND_DELIMITER && byte < FIRST_PRINTABLE && byte != CARRIAGE_RETURN) {
        mlperf->place = IN_FRAME; /* it may change the model, or use its memory */
        mlperf->announced = mlperf->received = 0;
        mlperf->has_results = 0;
        set_pin(mlperf, 0); /* RUN and others lift it while the model runs */
    }
    if (mlperf->place == IN_FRAME) {
        thimble_server_receive(mlperf->server, byte);
        return;
    }
    mlperf->place = IN_COMMAND;
    if (byte == THIMBLE_MLPERF_TERMINATOR) {
        end_command(mlperf);
    } else if (byte != CARRIAGE_RETURN && mlperf->length <= THIMBLE_MLPERF_COMMAND_BYTES) {
        ((uint8_t *)mlperf->server->setup->request_buffer)[mlperf->length++] = byte ? byte : ' ';
    }
}
