/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * NATS JetStream. A batch is published asynchronously, and is done when each message has its
 * answer: it is acknowledged, or it is larger than the server or the stream will ever take.
 * Whatever else fails ends the connection; then the rest of the batch is sent by a new one. So
 * nothing lies in a buffer of the client that a batch does not have. What is stored and was not
 * acknowledged is sent again, and the server drops it by the header Nats-Msg-Id.
 */
#include "tools/forward/output.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nats/nats.h>

#define CONNECT_MS 2000
#define SLICE_MS 100             /* to look whether the connection is gone */
#define PROGRESS_MS 5000         /* without an acknowledgement: given up */
#define BUFFER_SIZE (256 * 1024) /* some hundred messages a write */
#define PENDING (4 * OUTPUT_BATCH)
#define SUBJECTS "exitbus.>"
#define DEFAULT_STREAM "EXITBUS"

struct nats_output {
    struct output output;
    const struct output_options *options;
    natsConnection *connection;
    jsCtx *stream;
    struct message *messages; /* the batch */
    size_t count;
    bool is_rest;                /* the batch has failed, and its rest comes again */
    pthread_mutex_t lock;        /* of what follows, which callbacks write */
    natsMsg *sent[OUTPUT_BATCH]; /* without an answer; freed by the callback */
    bool is_done[OUTPUT_BATCH];  /* acknowledged, or refused for good */
    size_t done;
    size_t refused;  /* of them */
    size_t expected; /* the place whose answer is next: they come in order, mostly */
    bool has_failed; /* a message was refused, but not for good */
    bool is_gone;
    char why[256];
};

/* --------------------------------------------------------------------------------- callbacks */

/* Returns the place of a message in the batch, or `count`: it is not there. */
static size_t place_of(const struct nats_output *nats, const natsMsg *message)
{
    for (size_t i = 0; i < nats->count; i++) {
        size_t place = (nats->expected + i) % nats->count;
        if (nats->sent[place] == message)
            return place;
    }
    return nats->count;
}

/* A message has its answer. `why` is NULL if it is stored, or a text: it never will be. */
static void settle(struct nats_output *nats, size_t place, const char *why)
{
    nats->is_done[place] = true;
    nats->done++;
    if (!why)
        return;
    nats->refused++;
    fprintf(stderr, "exitbus-forward: %s is refused for good: %s\n", nats->messages[place].id, why);
}

static const char *text_of(const jsPubAckErr *error)
{
    if (!error)
        return "no answer";
    return error->ErrText ? error->ErrText : natsStatus_GetText(error->Err);
}

static void take_answer(struct nats_output *nats, const natsMsg *message, bool is_stored,
                        const jsPubAckErr *error)
{
    size_t place = place_of(nats, message);
    if (place == nats->count)
        return;
    nats->sent[place] = NULL; /* a later message may have its address */
    nats->expected = place + 1;
    if (is_stored)
        settle(nats, place, NULL);
    else if (error &&
             (error->Err == NATS_MAX_PAYLOAD || error->ErrCode == JSStreamMessageExceedsMaximumErr))
        settle(nats, place, text_of(error));
    else if (!nats->has_failed) {
        nats->has_failed = true;
        snprintf(nats->why, sizeof nats->why, "%s", text_of(error));
    }
}

static void on_answer(jsCtx *stream, natsMsg *message, jsPubAck *accepted, jsPubAckErr *error,
                      void *closure)
{
    struct nats_output *nats = closure;
    pthread_mutex_lock(&nats->lock);
    if (stream == nats->stream) /* not of a connection before this one */
        take_answer(nats, message, accepted != NULL, error);
    pthread_mutex_unlock(&nats->lock);
    natsMsg_Destroy(message);
}

static void on_closed(natsConnection *connection, void *closure)
{
    struct nats_output *nats = closure;
    pthread_mutex_lock(&nats->lock);
    nats->is_gone |= connection == nats->connection;
    pthread_mutex_unlock(&nats->lock);
}

/* -------------------------------------------------------------------------------- connection */

/* Callbacks compare their own connection with this one. An object whose callback runs is not freed
 * yet, so no other has its address. */
static void set_link(struct nats_output *nats, natsConnection *connection, jsCtx *stream)
{
    pthread_mutex_lock(&nats->lock);
    nats->connection = connection;
    nats->stream = stream;
    nats->is_gone = false;
    pthread_mutex_unlock(&nats->lock);
}

static void disconnect(struct nats_output *nats)
{
    jsCtx *stream = nats->stream;
    natsConnection *connection = nats->connection;
    set_link(nats, NULL, NULL);
    jsCtx_Destroy(stream);
    if (connection)
        natsConnection_Close(connection);
    natsConnection_Destroy(connection);
}

static natsStatus connect_to(struct nats_output *nats, natsConnection **connection)
{
    natsOptions *options = NULL;
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK)
        status = natsOptions_SetURL(options, nats->options->target + strlen("nats:"));
    if (status == NATS_OK)
        status = natsOptions_SetName(options, "exitbus-forward");
    if (status == NATS_OK)
        status = natsOptions_SetTimeout(options, CONNECT_MS);
    if (status == NATS_OK)
        status = natsOptions_SetAllowReconnect(options, false);
    if (status == NATS_OK)
        status = natsOptions_SetWriteDeadline(options, PROGRESS_MS);
    if (status == NATS_OK)
        status = natsOptions_SetIOBufSize(options, BUFFER_SIZE);
    if (status == NATS_OK)
        status = natsOptions_SetClosedCB(options, on_closed, nats);
    if (status == NATS_OK && nats->options->credentials)
        status = natsOptions_SetUserCredentialsFromFiles(options, nats->options->credentials, NULL);
    if (status == NATS_OK)
        status = natsConnection_Connect(connection, options);
    natsOptions_Destroy(options);
    return status;
}

static natsStatus open_context(struct nats_output *nats, natsConnection *connection, jsCtx **stream)
{
    jsOptions options;
    jsOptions_Init(&options);
    options.Wait = CONNECT_MS;
    options.PublishAsync.MaxPending = PENDING;
    options.PublishAsync.AckHandler = on_answer;
    options.PublishAsync.AckHandlerClosure = nats;
    return natsConnection_JetStream(stream, connection, &options);
}

/* The stream that `create` makes: on disk, by limits. One that is there is left as it is. */
static natsStatus make_stream(struct nats_output *nats)
{
    const char *subjects[] = {SUBJECTS};
    jsErrCode code = 0;
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = nats->options->stream ? nats->options->stream : DEFAULT_STREAM;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    natsStatus status = js_AddStream(NULL, nats->stream, &config, NULL, &code);
    return code == JSStreamNameExistErr ? NATS_OK : status;
}

static natsStatus connected(struct nats_output *nats)
{
    natsConnection *connection = NULL;
    jsCtx *stream = NULL;
    if (nats->connection)
        return NATS_OK;
    natsStatus status = connect_to(nats, &connection);
    if (status == NATS_OK)
        status = open_context(nats, connection, &stream);
    set_link(nats, connection, stream);
    if (connection && natsConnection_IsClosed(connection)) /* and on_closed() was too early */
        return NATS_CONNECTION_CLOSED;
    if (status == NATS_OK && nats->options->create)
        status = make_stream(nats);
    return status;
}

/* ------------------------------------------------------------------------------------ a batch */

/* `message` is sent now, at `place` of the batch: the answer may come before the call returns. */
static void await_answer(struct nats_output *nats, size_t place, natsMsg *message)
{
    pthread_mutex_lock(&nats->lock);
    nats->sent[place] = message;
    pthread_mutex_unlock(&nats->lock);
}

static bool is_done(struct nats_output *nats, size_t place)
{
    pthread_mutex_lock(&nats->lock);
    bool done = nats->is_done[place];
    pthread_mutex_unlock(&nats->lock);
    return done;
}

static void refuse(struct nats_output *nats, size_t place)
{
    pthread_mutex_lock(&nats->lock);
    nats->sent[place] = NULL;
    settle(nats, place, natsStatus_GetText(NATS_MAX_PAYLOAD));
    pthread_mutex_unlock(&nats->lock);
}

static natsStatus publish(struct nats_output *nats, size_t place)
{
    const struct message *message = &nats->messages[place];
    natsMsg *sent = NULL;
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MsgId = message->id;
    options.ExpectStream = nats->options->stream; /* NULL: whichever has the subject */
    natsStatus status =
        natsMsg_Create(&sent, message->subject, NULL, message->text, (int)message->size);
    if (status == NATS_OK) {
        await_answer(nats, place, sent);
        status = js_PublishMsgAsync(nats->stream, &sent, &options);
    }
    if (status == NATS_MAX_PAYLOAD)
        refuse(nats, place);
    natsMsg_Destroy(sent);
    return status == NATS_MAX_PAYLOAD ? NATS_OK : status;
}

static void read_counts(struct nats_output *nats, size_t *done, bool *failed)
{
    pthread_mutex_lock(&nats->lock);
    *done = nats->done;
    *failed = nats->has_failed || nats->is_gone;
    pthread_mutex_unlock(&nats->lock);
}

/* Returns NATS_OK when all have their answers. */
static natsStatus await(struct nats_output *nats)
{
    size_t done = 0, before = 0;
    bool failed = false;
    for (int waited = 0; waited < PROGRESS_MS; waited += SLICE_MS) {
        jsPubOptions options;
        jsPubOptions_Init(&options);
        options.MaxWait = SLICE_MS;
        natsStatus status = js_PublishAsyncComplete(nats->stream, &options);
        read_counts(nats, &done, &failed);
        if (done == nats->count)
            return NATS_OK;
        if (failed || (status != NATS_OK && status != NATS_TIMEOUT))
            return NATS_ERR;
        if (done > before)
            waited = 0;
        before = done;
    }
    return NATS_TIMEOUT;
}

/* Returns 0; or -EIO, and the connection is gone. */
static int outcome(struct nats_output *nats, natsStatus status, const char **why)
{
    nats->is_rest = status != NATS_OK;
    if (status == NATS_OK)
        return 0;
    pthread_mutex_lock(&nats->lock);
    if (nats->why[0] == '\0')
        snprintf(nats->why, sizeof nats->why, "%s",
                 nats->is_gone ? "the connection has ended" : natsStatus_GetText(status));
    pthread_mutex_unlock(&nats->lock);
    disconnect(nats);
    *why = nats->why;
    return -EIO;
}

/* Of a batch that comes again, what is done stays so. */
static void begin(struct nats_output *nats, struct message *messages, size_t count)
{
    pthread_mutex_lock(&nats->lock);
    nats->messages = messages;
    nats->count = count;
    nats->expected = 0;
    nats->has_failed = false;
    nats->why[0] = '\0';
    memset(nats->sent, 0, sizeof nats->sent);
    if (!nats->is_rest) {
        memset(nats->is_done, 0, sizeof nats->is_done);
        nats->done = nats->refused = 0;
    }
    pthread_mutex_unlock(&nats->lock);
}

static int start_batch(struct output *output, struct message *messages, size_t count,
                       const char **why)
{
    struct nats_output *nats = (struct nats_output *)output;
    begin(nats, messages, count);
    natsStatus status = connected(nats);
    for (size_t i = 0; status == NATS_OK && i < count; i++)
        if (!is_done(nats, i))
            status = publish(nats, i);
    return outcome(nats, status, why);
}

static int finish_batch(struct output *output, const char **why)
{
    struct nats_output *nats = (struct nats_output *)output;
    int result = outcome(nats, await(nats), why);
    output->refused = nats->refused; /* with all answers there, no callback writes it */
    return result;
}

static void close_nats(struct output *output)
{
    struct nats_output *nats = (struct nats_output *)output;
    disconnect(nats);
    if (nats_CloseAndWait(CONNECT_MS) != NATS_OK)
        return; /* a callback may be running */
    pthread_mutex_destroy(&nats->lock);
    free(nats);
}

struct output *output_nats_open(const struct output_options *options)
{
    struct nats_output *nats = calloc(1, sizeof *nats);
    if (!nats || nats_Open(-1) != NATS_OK) {
        free(nats);
        errno = ENOMEM;
        return NULL;
    }
    nats->output =
        (struct output){.start = start_batch, .finish = finish_batch, .close = close_nats};
    nats->options = options;
    pthread_mutex_init(&nats->lock, NULL);
    return &nats->output;
}
