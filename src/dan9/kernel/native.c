/* The things of the kernel's hot path that mypyc cannot say.
 *
 * Bound    arguments without a dict: a compiled method that takes keywords makes and frees a
 *          dict for them at every call, also where there are none.
 * step     a coroutine's step without StopIteration: PyIter_Send says that a coroutine has
 *          ended and what its value is; Python, compiled or not, has to raise and catch.
 * spawning a coroutine without a frame, for what needs none; instances whose one slot is set
 *          without a look at their class.
 *
 * plain.py and spawning.py say the same in Python, for a kernel that is not compiled;
 * tests/kernel/test_native.py and test_spawning.py hold the two to one contract. Linked into the
 * library that mypyc makes, whose functions (CPyDef_module___name) it calls directly.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "__native_internal_dan9_kernel.h"

/* Shapes of a message's arguments, as in message.py. */
enum { NO_ARGS, ONE_ARG, TUPLE_ARGS, MIXED = 4 };

typedef dan9___kernel___cell___BehaviourObject Behaviour;
typedef dan9___kernel___cell___CellObject Cell;
typedef dan9___kernel___cell___HomeObject Home;
typedef dan9___kernel___hand___HandObject Hand;
typedef dan9___kernel___message___MessageObject Message;
typedef dan9___kernel___message___RareObject Rare;
typedef dan9___kernel___message___VerbObject Verb;
typedef dan9___kernel___registry___RegistryObject Registry;
typedef dan9___kernel___scheduler___SchedulerObject Scheduler;

static PyObject *ended; /* hand.ENDED: what a step gives when the coroutine has ended */

static PyObject *behaviour_name; /* "_d9_behaviour" */

/* Constants of cell.py and message.py. */
static long unusual, not_runnable, queued, ordinary;

/* Take an attribute of a module of the kernel. A new reference. */
static PyObject *
constant(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *value = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return value;
}

/* The same, of a number; the caller asks whether an error was raised. */
static long
number(const char *module_name, const char *name)
{
    PyObject *value = constant(module_name, name);
    long found = value == NULL ? -1 : PyLong_AsLong(value);
    Py_XDECREF(value);
    return found;
}

/* -- Bound: one message of one daemon, ready to be said ------------------------------------- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *cell;
    PyObject *verb;
    double timeout_s;
} Bound;

static PyTypeObject Bound_type;

/* Return the one object that carries these arguments, and their shape. A new reference. */
static PyObject *
pack(PyObject *const *args, Py_ssize_t count, PyObject *names, int32_t *shape)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (named == 0 && count <= 1) {
        *shape = count == 0 ? NO_ARGS : ONE_ARG;
        return Py_NewRef(count == 0 ? Py_None : args[0]);
    }
    PyObject *positional = PyTuple_New(count);
    if (positional == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
    }
    if (named == 0) {
        *shape = TUPLE_ARGS;
        return positional;
    }
    PyObject *keywords = PyDict_New();
    for (Py_ssize_t i = 0; keywords != NULL && i < named; i++) {
        if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), args[count + i]) < 0) {
            Py_CLEAR(keywords);
        }
    }
    *shape = MIXED;
    PyObject *both = keywords == NULL ? NULL : PyTuple_Pack(2, positional, keywords);
    Py_DECREF(positional);
    Py_XDECREF(keywords);
    return both;
}

static PyObject *
Bound_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names)
{
    Bound *self = (Bound *)callable;
    int32_t shape;
    PyObject *packed = pack(args, PyVectorcall_NARGS(flags), names, &shape);
    if (packed == NULL) {
        return NULL;
    }
    PyObject *ask = CPyDef_bound___ask(self->cell, self->verb, shape, packed, self->timeout_s);
    Py_DECREF(packed);
    return ask;
}

/* Tell one argument to a daemon with an open mailbox, from a handler: what nearly all tells are.
 *
 * What `Scheduler.stamp` and `enqueue` come to for such a tell, as in plain.py. False: it is
 * none, and nothing was done; or an error was raised.
 */
static bool
tell_shortly(Bound *self, PyObject *argument)
{
    Cell *cell = (Cell *)self->cell;
    Scheduler *scheduler = (Scheduler *)((Home *)cell->_home)->_scheduler;
    Message *current = (Message *)scheduler->_current;
    if (PyDict_GET_SIZE(CPyStatic_scheduler____THREADS) > 1 || Py_IsNone((PyObject *)current) ||
        !(Py_IsNone(current->_rare) || Py_IsNone(((Rare *)current->_rare)->_trace)) ||
        cell->_gate & unusual || cell->_depth >= cell->_limit ||
        ((Verb *)self->verb)->_kind != ordinary) {
        return false;
    }
    Message *message =
        (Message *)CPyDef_message___Message(self->cell, self->verb, ONE_ARG, argument);
    if (message == NULL) {
        return false;
    }
    Py_SETREF(message->_origin, Py_NewRef(current->_cell));
    message->_sent_at = scheduler->_now;
    message->_serial = ++scheduler->_serial;
    scheduler->_sent++;
    cell->_depth++;
    if (Py_IsNone(cell->_tail)) {
        Py_SETREF(cell->_head, Py_NewRef((PyObject *)message));
    }
    else {
        Py_SETREF(((Message *)cell->_tail)->_next, Py_NewRef((PyObject *)message));
    }
    Py_SETREF(cell->_tail, (PyObject *)message);
    if (cell->_gate & not_runnable) {
        return true;
    }
    cell->_gate |= queued;
    return CPyDef_scheduler___Scheduler___append((PyObject *)scheduler, self->cell) != 2;
}

static PyObject *
Bound_tell(Bound *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (count == 1 && names == NULL) {
        if (tell_shortly(self, args[0])) {
            Py_RETURN_NONE;
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    int32_t shape;
    PyObject *packed = pack(args, count, names, &shape);
    if (packed == NULL) {
        return NULL;
    }
    char failed = CPyDef_bound___tell(self->cell, self->verb, shape, packed);
    Py_DECREF(packed);
    if (failed == 2) { /* mypyc's error value of a function that returns None */
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Bound_send(Bound *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    int32_t shape;
    PyObject *packed = pack(args, count, names, &shape);
    if (packed == NULL) {
        return NULL;
    }
    PyObject *ticket = CPyDef_bound___send(self->cell, self->verb, shape, packed, self->timeout_s);
    Py_DECREF(packed);
    return ticket;
}

static PyObject *
make_bound(PyTypeObject *type, PyObject *cell, PyObject *verb, double timeout_s)
{
    Bound *self = (Bound *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->vectorcall = Bound_call;
        self->cell = Py_NewRef(cell);
        self->verb = Py_NewRef(verb);
        self->timeout_s = timeout_s;
    }
    return (PyObject *)self;
}

static PyObject *
Bound_within(Bound *self, PyObject *timeout)
{
    double timeout_s = CPyDef_bound___seconds(timeout);
    if (timeout_s == CPY_FLOAT_ERROR && PyErr_Occurred()) {
        return NULL;
    }
    return make_bound(&Bound_type, self->cell, self->verb, timeout_s);
}

static PyObject *
Bound_repr(Bound *self)
{
    return CPyDef_bound___description(self->cell, self->verb);
}

static PyObject *
Bound_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"cell", "verb", "timeout_s", NULL};
    PyObject *cell, *verb;
    double timeout_s = -1.0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!|d:Bound", names, CPyType_cell___Cell,
                                     &cell, CPyType_message___Verb, &verb, &timeout_s)) {
        return NULL;
    }
    return make_bound(type, cell, verb, timeout_s);
}

static int
Bound_traverse(Bound *self, visitproc visit, void *arg)
{
    Py_VISIT(self->cell);
    Py_VISIT(self->verb);
    return 0;
}

static int
Bound_clear(Bound *self)
{
    Py_CLEAR(self->cell);
    Py_CLEAR(self->verb);
    return 0;
}

static void
Bound_dealloc(Bound *self)
{
    PyObject_GC_UnTrack(self);
    Bound_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef Bound_methods[] = {
    {"tell", METHOD(Bound_tell), METH_FASTCALL | METH_KEYWORDS, "Tell: send and go on."},
    {"send", METHOD(Bound_send), METH_FASTCALL | METH_KEYWORDS, "Tell and wait for room."},
    {"within", METHOD(Bound_within), METH_O, "Return the same with a deadline of its own."},
    {NULL},
};

static PyMemberDef Bound_members[] = {
    {"cell", T_OBJECT, offsetof(Bound, cell), READONLY, NULL},
    {"verb", T_OBJECT, offsetof(Bound, verb), READONLY, NULL},
    {"timeout_s", T_DOUBLE, offsetof(Bound, timeout_s), READONLY, NULL},
    {NULL},
};

static PyTypeObject Bound_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dan9.kernel._native.Bound",
    .tp_doc = "One message of one daemon, ready to be said; see plain.Bound.",
    .tp_basicsize = sizeof(Bound),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = Bound_new,
    .tp_dealloc = (destructor)Bound_dealloc,
    .tp_traverse = (traverseproc)Bound_traverse,
    .tp_clear = (inquiry)Bound_clear,
    .tp_repr = (reprfunc)Bound_repr,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Bound, vectorcall),
    .tp_methods = Bound_methods,
    .tp_members = Bound_members,
};

/* -- step and throw: a coroutine in hand -------------------------------------------------- */

/* Take the exception that is raised, whole. A new reference. */
static PyObject *
take_error(void)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL) {
        PyException_SetTraceback(error, trace);
    }
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
}

/* Note that a coroutine has ended: its outcome, and whether it changed a context variable. */
static PyObject *
note_end(Hand *hand, PyObject **outcome, PyObject *value)
{
    Py_SETREF(*outcome, value);
    if (!Py_IsNone(hand->_pristine)) {
        PyObject *same =
            PyContext_Type.tp_richcompare(hand->_context, hand->_pristine, Py_EQ);
        if (same == NULL) {
            return NULL;
        }
        if (same != Py_True) {
            hand->_kept = 1;
        }
        Py_DECREF(same);
    }
    return Py_NewRef(ended);
}

/* Leave the context; return what was yielded, or `ended` with the outcome in the hand. */
static PyObject *
leave(Hand *hand, PySendResult status, PyObject *result)
{
    if (PyContext_Exit(hand->_context) < 0) {
        Py_CLEAR(result);
        status = PYGEN_ERROR;
    }
    if (status == PYGEN_RETURN) {
        return note_end(hand, &hand->_result_, result);
    }
    if (status == PYGEN_NEXT) {
        return result;
    }
    return note_end(hand, &hand->_error, take_error());
}

/* Enter the hand's context; return its coroutine, a new reference. */
static PyObject *
enter(PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyObject_TypeCheck(args[0], CPyType_hand___Hand)) {
        PyErr_SetString(PyExc_TypeError, "a hand, and what its coroutine is to get");
        return NULL;
    }
    Hand *hand = (Hand *)args[0];
    return PyContext_Enter(hand->_context) < 0 ? NULL : Py_NewRef(hand->_coroutine);
}

static PyObject *
step(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *result = NULL, *coroutine = enter(args, count);
    if (coroutine == NULL) {
        return NULL;
    }
    PySendResult status = PyIter_Send(coroutine, args[1], &result);
    Py_DECREF(coroutine);
    return leave((Hand *)args[0], status, result);
}

static PyObject *
throw(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *coroutine = enter(args, count);
    if (coroutine == NULL) {
        return NULL;
    }
    PySendResult status = PYGEN_NEXT;
    PyObject *result = PyObject_CallMethod(coroutine, "throw", "O", args[1]);
    if (result == NULL) {
        status = PYGEN_ERROR;
        if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
            PyObject *stop = take_error();
            result = Py_NewRef(((PyStopIterationObject *)stop)->value);
            status = PYGEN_RETURN;
            Py_DECREF(stop);
        }
    }
    Py_DECREF(coroutine);
    return leave((Hand *)args[0], status, result);
}

static PyMethodDef functions[] = {
    {"step", METHOD(step), METH_FASTCALL, "Go on with a hand's coroutine; see plain.step."},
    {"throw", METHOD(throw), METH_FASTCALL, "Raise an error in a hand's coroutine."},
    {NULL},
};

/* -- spawning: the coroutine that `System.spawn` returns ------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *system;
    PyObject *registry;
    PyObject *cls;
    PyObject *group;
    PyObject *name;
    PyObject *coroutine; /* what goes the long way; NULL: nothing does, so far */
    bool is_over;
} Spawning;

static PyObject *no_arguments;
static PyTypeObject *ref_type;
static Py_ssize_t cell_in_ref, cell_in_daemon;

/* Find where a class of Python keeps its slot `_d9_cell`: below 0 where it has none. */
static Py_ssize_t
cell_offset(PyObject *cls)
{
    PyObject *found = PyObject_GetAttrString(cls, "_d9_cell");
    Py_ssize_t offset = -1;
    if (found != NULL && Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        offset = ((PyMemberDescrObject *)found)->d_member->offset;
    }
    else if (found != NULL) {
        PyErr_SetString(PyExc_TypeError, "_d9_cell is no slot");
    }
    Py_XDECREF(found);
    return offset;
}

/* Learn of the classes that are made here; they are imported after this module. */
static bool
know_classes(PyObject *daemon_class)
{
    if (ref_type == NULL) {
        PyObject *found = constant("dan9.kernel.ref", "Ref");
        if (found == NULL || (cell_in_daemon = cell_offset(daemon_class)) < 0 ||
            (cell_in_ref = cell_offset(found)) < 0) {
            Py_XDECREF(found);
            return false;
        }
        no_arguments = PyTuple_New(0);
        ref_type = (PyTypeObject *)found;
    }
    return true;
}

/* Make an instance that has a cell, as `object.__new__(cls)` and an assignment would.
 *
 * Not by tp_alloc: without `object.__new__`, CPython 3.11 makes a dict for it at its first
 * attribute, of 300 bytes.
 */
static PyObject *
holder_of(PyTypeObject *cls, Py_ssize_t offset, PyObject *cell)
{
    PyObject *holder = PyBaseObject_Type.tp_new(cls, no_arguments, NULL);
    if (holder != NULL) {
        *(PyObject **)((char *)holder + offset) = Py_NewRef(cell);
    }
    return holder;
}

/* True for the names that need no closer look: lower-case letters and digits. */
static bool
is_plain(PyObject *name)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    if (!PyUnicode_IS_COMPACT_ASCII(name) || length < 1 || length > 63) {
        return false;
    }
    const Py_UCS1 *letters = PyUnicode_1BYTE_DATA(name);
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS1 letter = letters[i];
        if (!((letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9'))) {
            return false;
        }
    }
    return true;
}

/* Spawn a daemon whose start takes no code; return its ref. NULL, no error: it is another. */
static PyObject *
spawn_quickly(Spawning *self)
{
    if (!((Registry *)self->registry)->_is_quiet || !PyType_Check(self->cls) ||
        !PyUnicode_CheckExact(self->name) || !PyUnicode_CheckExact(self->group) ||
        PyType_HasFeature((PyTypeObject *)self->cls, Py_TPFLAGS_IS_ABSTRACT)) {
        return NULL;
    }
    PyObject *found = PyObject_GetAttr(self->cls, behaviour_name);
    if (found == NULL) {
        PyErr_Clear(); /* no daemon class: the long way says so */
        return NULL;
    }
    Behaviour *behaviour = (Behaviour *)found;
    bool is_quick = Py_IS_TYPE(found, CPyType_cell___Behaviour) && behaviour->_is_quick &&
                    behaviour->_cls == self->cls;
    Py_DECREF(found); /* its class has it */
    if (!is_quick || !know_classes(self->cls)) {
        return NULL;
    }
    PyObject *cell = CPyDef_registry___Registry___claim(self->registry, found, self->group,
                                                        self->name, is_plain(self->name));
    if (cell == NULL) {
        return NULL;
    }
    PyObject *ref = NULL;
    PyObject *daemon = holder_of((PyTypeObject *)self->cls, cell_in_daemon, cell);
    if (daemon != NULL) {
        Py_SETREF(((Cell *)cell)->_instance, daemon);
        ref = holder_of(ref_type, cell_in_ref, cell);
    }
    Py_DECREF(cell);
    return ref;
}

/* Begin the long way: `system._spawn(cls, name, None, group=group)`. */
static bool
go_the_long_way(Spawning *self)
{
    PyObject *spawn = PyObject_GetAttrString(self->system, "_spawn");
    PyObject *names = Py_BuildValue("(s)", "group");
    if (spawn != NULL && names != NULL) {
        PyObject *args[] = {self->cls, self->name, Py_None, self->group};
        self->coroutine = PyObject_Vectorcall(spawn, args, 3, names);
    }
    Py_XDECREF(spawn);
    Py_XDECREF(names);
    return self->coroutine != NULL;
}

/* True, with an error raised, if it has ended: it runs once. */
static bool
has_ended(Spawning *self)
{
    if (self->is_over) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    }
    return self->is_over;
}

static PySendResult
Spawning_step(PyObject *object, PyObject *sent, PyObject **result)
{
    Spawning *self = (Spawning *)object;
    PySendResult status = PYGEN_ERROR;
    if (has_ended(self)) {
        return status;
    }
    if (self->coroutine == NULL) {
        *result = spawn_quickly(self);
        if (*result != NULL) {
            status = PYGEN_RETURN;
        }
        else if (!PyErr_Occurred() && go_the_long_way(self)) {
            status = PyIter_Send(self->coroutine, Py_None, result);
        }
    }
    else {
        status = PyIter_Send(self->coroutine, sent, result);
    }
    self->is_over = status != PYGEN_NEXT;
    return status;
}

static PyObject *
Spawning_send(PyObject *self, PyObject *sent)
{
    PyObject *result = NULL;
    PySendResult status = Spawning_step(self, sent, &result);
    if (status == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_CLEAR(result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    return result;
}

static PyObject *
Spawning_next(PyObject *self)
{
    return Spawning_send(self, Py_None);
}

/* Throw into it, or close it: what has not begun takes the long way, and ends before a step. */
static PyObject *
Spawning_forward(Spawning *self, PyObject *const *args, Py_ssize_t count, const char *method)
{
    bool ends = self->coroutine == NULL;
    if (has_ended(self) || (ends && !go_the_long_way(self))) {
        return NULL;
    }
    PyObject *bound = PyObject_GetAttrString(self->coroutine, method);
    PyObject *result = bound == NULL ? NULL : PyObject_Vectorcall(bound, args, count, NULL);
    Py_XDECREF(bound);
    self->is_over = ends || result == NULL;
    return result;
}

static PyObject *
Spawning_throw(Spawning *self, PyObject *const *args, Py_ssize_t count)
{
    return Spawning_forward(self, args, count, "throw");
}

static PyObject *
Spawning_close(Spawning *self, PyObject *unused)
{
    if (self->is_over) {
        Py_RETURN_NONE;
    }
    PyObject *result = Spawning_forward(self, NULL, 0, "close");
    self->is_over = true;
    return result;
}

static PyObject *
Spawning_vectorcall(PyObject *type, PyObject *const *args, size_t flags, PyObject *names)
{
    if (names != NULL || PyVectorcall_NARGS(flags) != 5 ||
        !Py_IS_TYPE(args[1], CPyType_registry___Registry)) {
        PyErr_SetString(PyExc_TypeError,
                        "spawning takes a system, its registry, a class, a group and a name");
        return NULL;
    }
    Spawning *self = PyObject_GC_New(Spawning, (PyTypeObject *)type);
    if (self == NULL) {
        return NULL;
    }
    self->system = Py_NewRef(args[0]);
    self->registry = Py_NewRef(args[1]);
    self->cls = Py_NewRef(args[2]);
    self->group = Py_NewRef(args[3]);
    self->name = Py_NewRef(args[4]);
    self->coroutine = NULL;
    self->is_over = false;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int
Spawning_traverse(Spawning *self, visitproc visit, void *arg)
{
    Py_VISIT(self->system);
    Py_VISIT(self->registry);
    Py_VISIT(self->cls);
    Py_VISIT(self->coroutine);
    return 0;
}

static void
Spawning_dealloc(Spawning *self)
{
    PyObject_GC_UnTrack(self);
    if (!self->is_over && self->coroutine == NULL) {
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "spawning %R was never awaited", self->name) <
            0) {
            PyErr_WriteUnraisable(self->name);
        }
        PyErr_Restore(type, error, trace);
    }
    Py_DECREF(self->system);
    Py_DECREF(self->registry);
    Py_DECREF(self->cls);
    Py_DECREF(self->group);
    Py_DECREF(self->name);
    Py_XDECREF(self->coroutine);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef Spawning_methods[] = {
    {"send", (PyCFunction)Spawning_send, METH_O, "Go on with a value."},
    {"throw", METHOD(Spawning_throw), METH_FASTCALL, "Raise an error in it."},
    {"close", (PyCFunction)Spawning_close, METH_NOARGS, "End it."},
    {NULL},
};

static PyAsyncMethods Spawning_as_async = {
    .am_await = PyObject_SelfIter,
    .am_send = Spawning_step,
};

static PyTypeObject Spawning_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dan9.kernel._native.spawning",
    .tp_doc = "The coroutine that spawns a daemon; see plain.spawning.",
    .tp_basicsize = sizeof(Spawning),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_vectorcall = Spawning_vectorcall,
    .tp_dealloc = (destructor)Spawning_dealloc,
    .tp_traverse = (traverseproc)Spawning_traverse,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = Spawning_next,
    .tp_as_async = &Spawning_as_async,
    .tp_methods = Spawning_methods,
};

/* -- the module ----------------------------------------------------------------------------- */

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Bound, step, throw and spawning in C; see native.c.", -1, functions,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    unusual = number("dan9.kernel.cell", "UNUSUAL");
    not_runnable = number("dan9.kernel.cell", "NOT_RUNNABLE");
    queued = number("dan9.kernel.cell", "QUEUED");
    ordinary = number("dan9.kernel.message", "ORDINARY");
    ended = constant("dan9.kernel.hand", "ENDED");
    behaviour_name = PyUnicode_InternFromString("_d9_behaviour");
    PyObject *module = PyErr_Occurred() ? NULL : PyModule_Create(&definition);
    if (module == NULL || PyModule_AddType(module, &Bound_type) < 0 ||
        PyModule_AddType(module, &Spawning_type) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
