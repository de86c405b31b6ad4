%% A peer: Erlang/OTP, gen_server for what has replies and bare processes for the ring.
%% It obeys as worker.py does: a line of name and count in, a line of JSON out.
-module(contender).
-behaviour(gen_server).
-export([main/0, init/1, handle_call/3, handle_cast/2]).

-define(BURST, 5000).
-define(FAN, 1000).

main() ->
    Names = ["ring-100-sync", "ring-10000-sync", "ask-sync", "tell", "fan-out", "spawn",
             "spawn-1000"],
    Quoted = lists:join(", ", [io_lib:format("\"~s\"", [Name]) || Name <- Names]),
    io:format("{\"ready\": [~s]}~n", [Quoted]),
    obey().

obey() ->
    case io:get_line("") of
        eof ->
            halt(0);
        Line ->
            [Name, Count] = string:lexemes(Line, " \n"),
            %% A process for each run: its heap goes with it.
            {Pid, Reference} = spawn_monitor(
                fun() -> exit({result, workload(Name, list_to_integer(Count))}) end),
            receive
                {'DOWN', Reference, process, Pid, {result, Answer}} -> say(Answer);
                {'DOWN', Reference, process, Pid, Why} ->
                    Flat = re:replace(io_lib:format("~0p", [Why]), "[\"\\\\]", "'",
                                      [global, {return, list}]),
                    io:format("{\"error\": \"~s\"}~n", [Flat])
            end,
            obey()
    end.

say(Answer) ->
    Pairs = [io_lib:format("\"~s\": ~w", [Key, Value]) || {Key, Value} <- Answer],
    io:format("{~s}~n", [lists:join(", ", Pairs)]).

%% -- workloads ---------------------------------------------------------------------------

workload("ring-100-sync", Hops) -> ring(100, Hops);
workload("ring-10000-sync", Hops) -> ring(10000, Hops);
workload("ask-sync", Count) ->
    {ok, Counter} = gen_server:start(?MODULE, [], []),
    {Last, Wall, Cpu} = timed(fun() -> ask_many(Counter, Count, 0) end),
    Last = Count,
    gen_server:stop(Counter),
    result(Count, Wall, Cpu);
workload("tell", Count) ->
    {ok, Counter} = gen_server:start(?MODULE, [], []),
    {Last, Wall, Cpu} = timed(fun() -> tell_many(Counter, Count div ?BURST, 0) end),
    Last = Count,
    gen_server:stop(Counter),
    result(Count, Wall, Cpu);
workload("fan-out", Count) ->
    Counters = start_many(?FAN),
    {Last, Wall, Cpu} = timed(fun() -> fan_many(Counters, Count div ?FAN, []) end),
    Count = lists:sum(Last),
    lists:foreach(fun gen_server:stop/1, Counters),
    result(Count, Wall, Cpu);
workload("spawn", Count) ->
    Before = resident(),
    {Counters, Wall, Cpu} = timed(fun() -> start_many(Count) end),
    Each = (resident() - Before) / Count,
    {Answered, VisitWall, VisitCpu} = timed(fun() -> visit(Counters, 0) end),
    Answered = Count,
    result(Count, Wall, Cpu) ++ [
        {bytes_each, Each}, {visit_wall_s, VisitWall}, {visit_cpu_s, VisitCpu},
        {resident_mb, resident() / 1.0e6}];
workload("spawn-1000", Count) ->
    {Wall, Cpu} = spawn_thousands(Count div 1000, 0.0, 0.0),
    result(Count div 1000 * 1000, Wall, Cpu).

ring(Size, Hops) ->
    Owner = self(),
    First = spawn(fun() -> receive {next, Next} -> hop(Next, Owner) end end),
    Second = lists:foldl(
        fun(_, Next) -> spawn(fun() -> hop(Next, Owner) end) end, First, lists:seq(2, Size)),
    First ! {next, Second},
    {Found, Wall, Cpu} = timed(
        fun() -> First ! Hops, receive {finished, Pid} -> Pid end end),
    %% The token went round whole laps, so it must have come back to where it began.
    case Hops rem Size of 0 -> First = Found; _ -> ok end,
    First ! stop,
    receive stopped -> ok end,
    result(Hops, Wall, Cpu).

hop(Next, Owner) ->
    receive
        0 -> Owner ! {finished, self()}, hop(Next, Owner);
        stop ->
            case is_process_alive(Next) of true -> Next ! stop; false -> ok end,
            Owner ! stopped;
        Left -> Next ! Left - 1, hop(Next, Owner)
    end.

ask_many(_, 0, Last) -> Last;
ask_many(Counter, Left, _) -> ask_many(Counter, Left - 1, gen_server:call(Counter, {add, 1})).

tell_many(_, 0, Last) -> Last;
tell_many(Counter, Left, _) ->
    burst(Counter, ?BURST),
    tell_many(Counter, Left - 1, gen_server:call(Counter, {add, 0})).

burst(_, 0) -> ok;
burst(Counter, Left) -> gen_server:cast(Counter, {add, 1}), burst(Counter, Left - 1).

fan_many(_, 0, Last) -> Last;
fan_many(Counters, Left, _) -> fan_many(Counters, Left - 1, fan(Counters)).

fan(Counters) ->
    Requests = [gen_server:send_request(Counter, {add, 1}) || Counter <- Counters],
    [begin {reply, Total} = gen_server:receive_response(Request, 5000), Total end
     || Request <- Requests].

start_many(Count) ->
    [begin {ok, Pid} = gen_server:start(?MODULE, [], []), Pid end || _ <- lists:seq(1, Count)].

visit([], Sum) -> Sum;
visit(Counters, Sum) ->
    {Some, Others} = split(Counters, ?FAN, []),
    visit(Others, Sum + lists:sum(fan(Some))).

split(Others, 0, Some) -> {Some, Others};
split([], _, Some) -> {Some, []};
split([One | Others], Left, Some) -> split(Others, Left - 1, [One | Some]).

spawn_thousands(0, Wall, Cpu) -> {Wall, Cpu};
spawn_thousands(Left, Wall, Cpu) ->
    {Counters, MoreWall, MoreCpu} = timed(fun() -> start_many(1000) end),
    1000 = length(Counters),
    lists:foreach(fun(Pid) -> exit(Pid, kill) end, Counters),
    spawn_thousands(Left - 1, Wall + MoreWall, Cpu + MoreCpu).

%% -- the counter -------------------------------------------------------------------------

init([]) -> {ok, 0}.
handle_call({add, By}, _, Total) -> {reply, Total + By, Total + By}.
handle_cast({add, By}, Total) -> {noreply, Total + By}.

%% -- measuring ---------------------------------------------------------------------------

timed(Work) ->
    erlang:garbage_collect(),
    Wall = erlang:monotonic_time(microsecond),
    {Cpu, _} = erlang:statistics(runtime),
    Value = Work(),
    {CpuAfter, _} = erlang:statistics(runtime),
    WallAfter = erlang:monotonic_time(microsecond),
    {Value, (WallAfter - Wall) / 1.0e6, (CpuAfter - Cpu) / 1.0e3}.

resident() ->
    erlang:garbage_collect(),
    {ok, Text} = file:read_file("/proc/" ++ os:getpid() ++ "/statm"),
    [_, Pages | _] = string:lexemes(binary_to_list(Text), " "),
    list_to_integer(Pages) * 4096.

result(Operations, Wall, Cpu) -> [{operations, Operations}, {wall_s, Wall}, {cpu_s, Cpu}].
