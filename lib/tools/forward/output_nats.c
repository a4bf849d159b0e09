/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * NATS JetStream. A batch is published asynchronously, and is done when all acknowledgements are
 * there. Whatever fails ends the connection; the next batch begins with a new one. So nothing lies
 * in a buffer of the client that a batch does not have, and the server drops what it has already,
 * by the header Nats-Msg-Id.
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
#define PENDING 16384            /* more than a batch has */
#define SUBJECTS "exitbus.>"
#define DEFAULT_STREAM "EXITBUS"

struct nats_output {
    struct output output;
    const struct output_options *options;
    natsConnection *connection;
    jsCtx *stream;
    size_t count;         /* of the batch */
    pthread_mutex_t lock; /* of what follows, which callbacks write */
    size_t acknowledged;
    size_t refused;
    bool is_gone;
    char why[256];
};

/* --------------------------------------------------------------------------------- callbacks */

static void on_answer(jsCtx *stream, natsMsg *message, jsPubAck *accepted, jsPubAckErr *error,
                      void *closure)
{
    struct nats_output *nats = closure;
    pthread_mutex_lock(&nats->lock);
    if (stream != nats->stream) /* of a connection before this one */
        ;
    else if (accepted)
        nats->acknowledged++;
    else if (nats->refused++ == 0 && error)
        snprintf(nats->why, sizeof nats->why, "%s",
                 error->ErrText ? error->ErrText : natsStatus_GetText(error->Err));
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

static natsStatus publish(struct nats_output *nats, const struct message *message)
{
    natsMsg *sent = NULL;
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MsgId = message->id;
    options.ExpectStream = nats->options->stream; /* NULL: whichever has the subject */
    natsStatus status =
        natsMsg_Create(&sent, message->subject, NULL, message->text, (int)message->size);
    if (status == NATS_OK)
        status = js_PublishMsgAsync(nats->stream, &sent, &options);
    natsMsg_Destroy(sent);
    return status;
}

static void read_counts(struct nats_output *nats, size_t *acknowledged, bool *failed)
{
    pthread_mutex_lock(&nats->lock);
    *acknowledged = nats->acknowledged;
    *failed = nats->refused > 0 || nats->is_gone;
    pthread_mutex_unlock(&nats->lock);
}

/* Returns NATS_OK when all are acknowledged. */
static natsStatus await(struct nats_output *nats, size_t count)
{
    size_t acknowledged = 0, before = 0;
    bool failed = false;
    for (int waited = 0; waited < PROGRESS_MS; waited += SLICE_MS) {
        jsPubOptions options;
        jsPubOptions_Init(&options);
        options.MaxWait = SLICE_MS;
        natsStatus status = js_PublishAsyncComplete(nats->stream, &options);
        read_counts(nats, &acknowledged, &failed);
        if (acknowledged == count)
            return NATS_OK;
        if (failed || (status != NATS_OK && status != NATS_TIMEOUT))
            return NATS_ERR;
        if (acknowledged > before)
            waited = 0;
        before = acknowledged;
    }
    return NATS_TIMEOUT;
}

/* Returns 0; or -EIO, and the connection is gone. */
static int outcome(struct nats_output *nats, natsStatus status, const char **why)
{
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

static int start_batch(struct output *output, struct message *messages, size_t count,
                       const char **why)
{
    struct nats_output *nats = (struct nats_output *)output;
    pthread_mutex_lock(&nats->lock);
    nats->acknowledged = nats->refused = 0;
    nats->why[0] = '\0';
    pthread_mutex_unlock(&nats->lock);
    nats->count = count;
    natsStatus status = connected(nats);
    for (size_t i = 0; status == NATS_OK && i < count; i++)
        status = publish(nats, &messages[i]);
    return outcome(nats, status, why);
}

static int finish_batch(struct output *output, const char **why)
{
    struct nats_output *nats = (struct nats_output *)output;
    return outcome(nats, await(nats, nats->count), why);
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
    nats->output = (struct output){start_batch, finish_batch, close_nats};
    nats->options = options;
    pthread_mutex_init(&nats->lock, NULL);
    return &nats->output;
}
