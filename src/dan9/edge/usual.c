/* The usual ask and the head of its answer; usual.py says what they are for.
 *
 * Nothing is refused here: whatever is not plainly a usual ask, or is not right, is None, and
 * the decoder that knows every frame says what it is. So each read either stays within the bytes or
 * gives up.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

enum {
    LONGEST_BODY = 4096, /* the work done before giving up is bounded */
    LONGEST_KEPT = 32,
    KEPT = 256,
};

typedef struct {
    const unsigned char *at;
    const unsigned char *end;
} Input;

/* Texts as they were made before, by a hash of their bytes. */
static PyObject *kept[KEPT];

/* Read an unsigned number of so many bytes, most significant first. */
static int
read_number(Input *input, int size, uint64_t *number)
{
    if (input->end - input->at < size) {
        return 0;
    }
    *number = 0;
    for (int i = 0; i < size; i++) {
        *number = *number << 8 | *input->at++;
    }
    return 1;
}

/* Read a text's place and size. */
static int
read_span(Input *input, const unsigned char **start, Py_ssize_t *size)
{
    if (input->at == input->end) {
        return 0;
    }
    unsigned char tag = *input->at++;
    uint64_t length = tag & 0x1f;
    if ((tag & 0xe0) != 0xa0 &&
        !(tag >= 0xd9 && tag <= 0xdb && read_number(input, 1 << (tag - 0xd9), &length))) {
        return 0;
    }
    if (length > (uint64_t)(input->end - input->at)) {
        return 0;
    }
    *start = input->at;
    *size = (Py_ssize_t)length;
    input->at += length;
    return 1;
}

/* Make a text. Most are ASCII, which needs no decoder. */
static PyObject *
make_text(const unsigned char *start, Py_ssize_t size)
{
    unsigned char bits = 0;
    for (Py_ssize_t i = 0; i < size; i++) {
        bits |= start[i];
    }
    if (bits & 0x80) {
        return PyUnicode_DecodeUTF8((const char *)start, size, NULL);
    }
    PyObject *text = PyUnicode_New(size, 127);
    if (text != NULL) {
        memcpy(PyUnicode_DATA(text), start, size);
    }
    return text;
}

/* Read a text that is likely to come again: kept, its hash is known and a dict finds it at once. */
static PyObject *
read_name(Input *input)
{
    const unsigned char *start;
    Py_ssize_t size;
    if (!read_span(input, &start, &size)) {
        return NULL;
    }
    if (size > LONGEST_KEPT) {
        return make_text(start, size);
    }
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (Py_ssize_t i = 0; i < size; i++) {
        hash = (hash ^ start[i]) * 16777619u;
    }
    PyObject **place = &kept[(hash ^ hash >> 16) % KEPT];
    if (*place != NULL && PyUnicode_GET_LENGTH(*place) == size &&
        memcmp(PyUnicode_DATA(*place), start, size) == 0) {
        return Py_NewRef(*place);
    }
    PyObject *text = make_text(start, size);
    if (text != NULL && PyUnicode_IS_ASCII(text)) { /* one byte a character */
        Py_XSETREF(*place, Py_NewRef(text));
    }
    return text;
}

/* Read a value that holds no others. */
static PyObject *
read_value(Input *input)
{
    if (input->at == input->end) {
        return NULL;
    }
    unsigned char tag = *input->at;
    const unsigned char *start;
    Py_ssize_t size;
    uint64_t number;
    if ((tag & 0xe0) == 0xa0 || (tag >= 0xd9 && tag <= 0xdb)) {
        return read_span(input, &start, &size) ? make_text(start, size) : NULL;
    }
    input->at++;
    if (tag <= 0x7f || tag >= 0xe0) {
        return PyLong_FromLong((signed char)tag);
    }
    switch (tag) {
    case 0xc0:
        Py_RETURN_NONE;
    case 0xc2:
        Py_RETURN_FALSE;
    case 0xc3:
        Py_RETURN_TRUE;
    case 0xcb:
        if (read_number(input, 8, &number)) {
            double real;
            memcpy(&real, &number, sizeof real);
            return PyFloat_FromDouble(real);
        }
        return NULL;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return read_number(input, 1 << (tag - 0xcc), &number)
                   ? PyLong_FromUnsignedLongLong(number)
                   : NULL;
    case 0xd0:
        return read_number(input, 1, &number) ? PyLong_FromLong((int8_t)number) : NULL;
    case 0xd1:
        return read_number(input, 2, &number) ? PyLong_FromLong((int16_t)number) : NULL;
    case 0xd2:
        return read_number(input, 4, &number) ? PyLong_FromLong((int32_t)number) : NULL;
    case 0xd3:
        return read_number(input, 8, &number) ? PyLong_FromLongLong((int64_t)number) : NULL;
    default:
        return NULL;
    }
}

/* Read the size of a small map. */
static int
read_count(Input *input, int *count)
{
    if (input->at == input->end || (*input->at & 0xf0) != 0x80) {
        return 0;
    }
    *count = *input->at++ & 0x0f;
    return 1;
}

/* Read a payload: a small map of texts to values that hold no others. */
static PyObject *
read_payload(Input *input)
{
    int count;
    PyObject *payload = read_count(input, &count) ? PyDict_New() : NULL;
    for (int i = 0; payload != NULL && i < count; i++) {
        PyObject *key = read_name(input);
        PyObject *value = key == NULL ? NULL : read_value(input);
        if (value == NULL || PyDict_SetItem(payload, key, value) < 0) {
            Py_CLEAR(payload);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return payload;
}

/* Read the id, to, type and payload of an ask that has these and nothing else. */
static int
read_parts(Input *input, PyObject *parts[4])
{
    int count;
    if (!read_count(input, &count) || count != 4) {
        return 0;
    }
    for (int i = 0; i < count; i++) {
        const unsigned char *key;
        Py_ssize_t size;
        if (!read_span(input, &key, &size)) {
            return 0;
        }
        int place;
        if (size == 2 && memcmp(key, "id", 2) == 0) {
            place = 0;
        } else if (size == 2 && memcmp(key, "to", 2) == 0) {
            place = 1;
        } else if (size == 4 && memcmp(key, "type", 4) == 0) {
            place = 2;
        } else if (size == 7 && memcmp(key, "payload", 7) == 0) {
            place = 3;
        } else {
            return 0;
        }
        if (parts[place] != NULL) {
            return 0;
        }
        PyObject *part = place == 0   ? read_value(input)
                         : place == 3 ? read_payload(input)
                                      : read_name(input);
        if (part == NULL) {
            return 0;
        }
        parts[place] = part;
    }
    return input->at == input->end && PyLong_CheckExact(parts[0]);
}

static PyObject *
read_ask(PyObject *module, PyObject *body)
{
    if (!PyBytes_CheckExact(body) || PyBytes_GET_SIZE(body) > LONGEST_BODY) {
        Py_RETURN_NONE;
    }
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(body);
    Input input = {start, start + PyBytes_GET_SIZE(body)};
    PyObject *parts[4] = {NULL};
    PyObject *found = read_parts(&input, parts) ? PyTuple_New(4) : NULL;
    for (int i = 0; i < 4; i++) {
        if (found != NULL) {
            PyTuple_SET_ITEM(found, i, parts[i]);
        } else {
            Py_XDECREF(parts[i]);
        }
    }
    if (found == NULL) {
        PyErr_Clear(); /* of a text that is none, for one */
        Py_RETURN_NONE;
    }
    return found;
}

static unsigned char *
write_number(unsigned char *at, int size, uint64_t number)
{
    while (size > 0) {
        *at++ = (unsigned char)(number >> 8 * --size);
    }
    return at;
}

static PyObject *
answer_head(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "answer_head takes a number and a size");
        return NULL;
    }
    int is_long;
    long long number = PyLong_AsLongLongAndOverflow(args[0], &is_long);
    uint64_t bits = is_long > 0 ? PyLong_AsUnsignedLongLong(args[0]) : (uint64_t)number;
    Py_ssize_t size = PyLong_AsSsize_t(args[1]);
    if (is_long < 0) {
        PyErr_SetString(PyExc_OverflowError, "a number of an ask has 64 bits");
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    unsigned char head[4 + 4 + 9 + 3], *at = head + 4;
    memcpy(at, "\x82\xa2id", 4);
    at += 4;
    if (is_long > 0 || number > UINT32_MAX) {
        *at++ = 0xcf;
        at = write_number(at, 8, bits);
    } else if (number < 0) {
        *at++ = 0xd3;
        at = write_number(at, 8, bits);
    } else if (number > UINT16_MAX) {
        *at++ = 0xce;
        at = write_number(at, 4, bits);
    } else if (number > 0x7f) {
        *at++ = 0xcd;
        at = write_number(at, 2, bits);
    } else {
        *at++ = (unsigned char)number;
    }
    memcpy(at, "\xa2ok", 3);
    at += 3;
    write_number(head, 4, (uint64_t)(at - head - 4 + size));
    return PyBytes_FromStringAndSize((const char *)head, at - head);
}

static PyMethodDef functions[] = {
    {"read_ask", read_ask, METH_O, "Return id, to, type and payload of a usual ask, or None."},
    {"answer_head", (PyCFunction)(void (*)(void))answer_head, METH_FASTCALL,
     "Return what stands before the value in the frame of an answer."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_usual", "The usual ask and the head of its answer; see usual.c.", -1,
    functions,
};

PyMODINIT_FUNC
PyInit__usual(void)
{
    return PyModule_Create(&definition);
}
